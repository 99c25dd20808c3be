"""Training: all seeds of an ablation side by side, over one reading of the data."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ser.config.ablation import Ablation
from ser.files import DataError
from ser.formats.curves import clear_curves, rename_curves
from ser.heads.features import Shape, batch, naming_damage, read_shape
from ser.heads.inputs import read_speakers
from ser.heads.model import apply_together, build_head, find_layer, join_heads, set_statistics
from ser.heads.prediction import predict_split
from ser.heads.saving import save_model, write_history
from ser.heads.training_data import Data, Split, read_split, take
from ser.heads.weighting import weigh_speakers
from ser.speakers.vectors import read_vectors
from ser.statistics.ccc import compute_ccc

_VALIDATION_BATCH = 256


@dataclass
class _Member:
    """One head in training: of a seed, for all targets or for one."""

    head: keras.Model
    targets: list[int]
    best: float = -np.inf
    best_epoch: int = 0
    best_weights: list[np.ndarray] = field(default_factory=list)
    history: list[tuple] = field(default_factory=list)
    stopped: bool = False


def train_ablation(
    ablation: Ablation,
    *,
    seeds: list[int],
    targets: list[str],
    train: Split,
    validation: Split,
    folder: str,
    results: str,
    memory_bytes: float,
    known_speakers: list[str] = (),
    target_speakers: list[str] = (),
    tensorboard: str | None = None,
) -> None:
    """Train the heads of an ablation, one a seed, and predict the training and validation split with them.

    Writes `{folder}/seed-{seed}/model.keras` and `history.csv`, and what `predict_split` writes. A seed decides the
    initial weights and dropout; the order of utterances is drawn anew in each epoch, the same for every seed, so that
    one reading of the data serves all of them and a seed's result does not depend on the others. Features larger than
    `memory_bytes` are read from disk again in each epoch and shuffled within as many as fit. With similar-speaker
    weighting, `known_speakers` are the speaker files of the training split and `target_speakers` those of the speakers
    that it adapts to. `tensorboard` is a folder for the curves of all seeds in TensorBoard's format.
    """
    for seed in seeds if tensorboard else ():
        clear_curves(f"{tensorboard}/seed-{seed}", 3)
    shape = read_shape(train.embeddings)
    if shape is None:
        raise DataError("every training utterance was set aside: see results/metadata/rejected.csv")
    size = sum(os.path.getsize(path) for path in train.embeddings + validation.embeddings)
    if isinstance(ablation.layer, int):
        size /= shape.rows
    speakers = read_speakers(train.speakers) if ablation.reads_speakers else None
    known = read_speakers(validation.speakers) if ablation.reads_speakers else None
    weights = None
    if ablation.weighting == "similar_speakers":
        compared = [read_vectors(paths) for paths in (known_speakers, target_speakers)]
        weights = weigh_speakers(*compared, ablation.neighbours, ablation.strength)
    in_memory = size < memory_bytes
    if ablation.attended and not in_memory:
        raise DataError(
            f"attention draws other utterances from all of a split, whose features take {size / 1e9:.1f} GB: set "
            f"training_memory_gb to more (now {memory_bytes / 1e9:g})"
        )
    training = read_split(train, ablation, shape, speakers, targets, weights, in_memory)
    validating = read_split(validation, ablation, shape, known, targets, None, in_memory)

    groups = [list(range(len(targets)))] if ablation.outputs == "joint" else [[i] for i in range(len(targets))]
    sizes = shape, len(next(iter(speakers.values()))) if speakers else 0
    members = [_build_member(ablation, seed, group, targets, sizes, training) for seed in seeds for group in groups]
    for member in members:
        set_statistics(member.head, "standardise_features", training.mean, training.variance)
        if speakers:
            vectors = np.stack(list(speakers.values()))
            set_statistics(member.head, "standardise_speaker", vectors.mean(axis=0), vectors.var(axis=0))
    # Streamed, float16 becomes float32, of which tf.data holds two copies.
    shuffled = max(1024, int(len(training.utterance_ids) * memory_bytes / (4 * size)))
    with naming_damage(train.embeddings + validation.embeddings):
        _fit(members, ablation, training, validating, targets, shuffled)

    heads = {}
    for i, seed in enumerate(seeds):
        group = members[i * len(groups) : (i + 1) * len(groups)]
        for member in group:
            for variable, value in zip(member.head.variables, member.best_weights, strict=True):
                variable.assign(value)
        heads[seed] = join_heads([member.head for member in group])
        save_model(f"{folder}/seed-{seed}/model.keras", heads[seed])
        rows = sorted(row for member in group for row in member.history)
        write_history(f"{folder}/seed-{seed}/history.csv", rows)
        if tensorboard:
            _log_curves(rows, f"{tensorboard}/seed-{seed}")
    for name, split in (("train", train), ("validation", validation)):
        paths = results.replace("{split}", name)
        predict_split(heads, ablation, split.embeddings, split.speakers, targets, paths, enrols=name != "train")


def _log_curves(rows: list[tuple], folder: str) -> None:
    with tf.summary.create_file_writer(folder).as_default():
        for epoch, target, loss, validation_ccc, _ in rows:
            tf.summary.scalar(f"{target}/loss", float(loss), epoch)
            tf.summary.scalar(f"{target}/validation_ccc", float(validation_ccc), epoch)
    rename_curves(folder)


def ccc_loss(labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """1 - CCC over a batch, averaged over targets: (B, targets), (B, targets), (B, 1) -> (); best value is 0.

    Means, variances and covariance are weighted by utterance.
    """
    weights = weights / tf.reduce_sum(weights)
    label_mean, mean = tf.reduce_sum(weights * labels, 0), tf.reduce_sum(weights * predictions, 0)
    covariance = tf.reduce_sum(weights * (labels - label_mean) * (predictions - mean), 0)
    spread = tf.reduce_sum(weights * ((labels - label_mean) ** 2 + (predictions - mean) ** 2), 0)
    # Labels that are all the same make no CCC; the small term keeps the gradient finite there.
    return tf.reduce_mean(1 - 2 * covariance / (spread + (label_mean - mean) ** 2 + 1e-8))


def _build_member(
    ablation: Ablation, seed: int, group: list[int], targets: list[str], sizes: tuple[Shape, int], data: Data
) -> _Member:
    shape, speaker_width = sizes
    keras.utils.set_random_seed((seed + 10_007 * group[0]) % 2**32)  # Keras takes no more
    sd = data.labels[:, group].std(axis=0)
    head = build_head(
        ablation,
        n_layers=shape.rows,
        width=shape.width,
        speaker_width=speaker_width,
        label_mean=data.labels[:, group].mean(axis=0).tolist(),
        label_sd=np.where(sd > 0, sd, 1.0).tolist(),
        name="_".join(targets[i] for i in group),
    )
    return _Member(head, group)


def _compile(members: list[_Member], settings: dict) -> tuple[Callable, Callable, Callable]:
    """Functions of the heads side by side: an epoch of columns, one of a stream, and their predictions of a batch.

    An epoch gives the heads' mean losses, (members,).
    """
    apply = apply_together([member.head for member in members])
    variables = [variable for member in members for variable in member.head.trainable_variables]
    optimizer = keras.optimizers.Adam(settings["learning_rate"])
    optimizer.build(variables)

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, which takes a second to find out
    def step(item) -> tf.Tensor:
        """One update of each member with a batch: their losses, (members,)."""
        losses = []
        with tf.GradientTape() as tape:
            for member, output in zip(members, apply(item, training=True), strict=True):
                labels = tf.gather(item["labels"], member.targets, axis=1)
                if settings["loss"] == "ccc":
                    losses.append(ccc_loss(labels, output["labels"], item["weight"]))
                else:
                    error = (labels - output["labels"]) / find_layer(member.head, "labels").scale
                    losses.append(tf.reduce_mean(item["weight"] * error**2))
            total = tf.add_n(losses)  # no member's loss depends on another's variables
        optimizer.apply(tape.gradient(total, variables), variables)
        return tf.stack(losses)

    # An epoch is one call: no Python runs between its steps.
    @tf.function
    def run_epoch(columns, order):
        losses = tf.zeros(len(members))
        for i in tf.range(tf.shape(order)[0]):
            losses += step(take(columns, order[i]))
        return losses / tf.cast(tf.shape(order)[0], tf.float32)

    @tf.function
    def stream_epoch(dataset):
        losses, steps = tf.zeros(len(members)), 0.0
        for item in dataset:
            losses += step(item)
            steps += 1.0
        return losses / steps

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(item):
        return [output["labels"] for output in apply(item, training=False)]

    return run_epoch, stream_epoch, predict


def _fit(
    members: list[_Member], ablation: Ablation, training: Data, validating: Data, targets: list[str], shuffled: int
) -> None:
    """Train until each member has gone `patience` epochs without a better validation CCC; keep its best weights."""
    settings = ablation.training
    run_epoch, stream_epoch, predict = _compile(members, settings)
    count = len(training.utterance_ids)
    size = min(settings["batch_size"], count)
    validating.fix_others(ablation)
    looking = np.random.default_rng(1)
    order = np.random.default_rng(0)  # not the members' seeds: their results must not depend on one another
    tf.random.set_seed(0)
    streamed = batch(training.dataset.shuffle(min(shuffled, count), seed=0), size, drop_remainder=True)
    bar = tqdm(range(1, settings["epochs"] + 1), desc="training", unit="epoch")
    for epoch in bar:
        if training.columns is None:
            losses = stream_epoch(streamed).numpy()
        else:
            rows = order.permutation(count)[: count // size * size].reshape(-1, size)
            training.draw_others(ablation, looking)
            losses = run_epoch(training.columns, tf.constant(rows)).numpy()
        outputs = [[output.numpy() for output in predict(item)] for item in validating.batches(_VALIDATION_BATCH)]
        for i, member in enumerate(members):
            if not member.stopped:
                predictions = np.concatenate([output[i] for output in outputs])
                _judge(member, epoch, losses[i], predictions, validating.labels, targets, settings["patience"])
        bar.set_postfix(validation_ccc=f"{np.mean([member.best for member in members]):.3f}")
        if all(member.stopped for member in members):
            break


def _judge(
    member: _Member,
    epoch: int,
    loss: float,
    predictions: np.ndarray,
    labels: np.ndarray,
    targets: list[str],
    patience: int,
) -> None:
    """Note an epoch of a head by its predictions of the validation split, keep its weights if they are the best."""
    if not np.isfinite(loss) or not np.isfinite(predictions).all():
        raise DataError(f"training went out of bounds in epoch {epoch}: choose a smaller learning_rate")
    scores = [compute_ccc(labels[:, t], predictions[:, j]) for j, t in enumerate(member.targets)]
    score = float(np.mean(scores))
    better = score > member.best
    if better:
        member.best, member.best_epoch = score, epoch
        member.best_weights = [variable.numpy() for variable in member.head.variables]
    member.history += [
        (epoch, targets[target], f"{loss:.6f}", f"{value:.6f}", int(better))
        for target, value in zip(member.targets, scores, strict=True)
    ]
    member.stopped = epoch - member.best_epoch >= patience
