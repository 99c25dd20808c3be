"""TensorFlow set so that the same inputs give the same numbers."""

import tensorflow as tf


def fix_numerics(threads: int) -> None:
    """Make TensorFlow's results depend on the inputs alone: fixed threads, deterministic operations.

    To be called before anything else is done with TensorFlow in a process.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
