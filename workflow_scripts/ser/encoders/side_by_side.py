"""Utterances computed side by side, in order, with a bound on what is held."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ser.encoders.decoding import HELD_SAMPLES
from ser.formats.manifest import Utterance

Batch = list[tuple[Utterance, np.ndarray]]  # utterances with their samples


def use_one_thread() -> None:
    """Let torch compute with one thread what this one asks for."""
    import torch

    torch.set_num_threads(1)


def work_side_by_side(
    work: Callable, batches: Iterable[Batch], workers: int, prepare: Callable | None = None
) -> Iterator[tuple[Batch, list]]:
    """Each batch with what `work` makes of it, in order; so many at a time, in threads that `prepare` begins.

    Two threads on two utterances are faster than both on one, and what they compute does not depend on their number.
    """
    with ThreadPoolExecutor(workers, initializer=prepare) as pool:
        pending: deque = deque()
        try:
            for batch in batches:
                pending.append((batch, pool.submit(work, batch)))
                samples = sum(len(samples) for batch, _ in pending for _, samples in batch)
                while len(pending) > 2 * workers or (samples > HELD_SAMPLES and pending):
                    batch, future = pending.popleft()
                    yield batch, future.result()
                    samples -= sum(len(samples) for _, samples in batch)
            for batch, future in pending:
                yield batch, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
