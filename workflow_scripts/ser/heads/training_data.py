"""What training reads of a split: features, speaker vectors and labels, in memory or read from disk in each epoch."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import tensorflow as tf

from ser.config.ablation import Ablation
from ser.files import DataError
from ser.heads.companions import Companions, draw_others, fix_others
from ser.heads.features import Shape, batch, open_features, read_blocks
from ser.heads.inputs import read_training_labels

_BLOCK = 64  # utterances whose statistics are taken at once


@dataclass
class Split:
    """The files of a split that training reads; `speakers` is empty where its head has no speaker vector."""

    embeddings: list[str]
    speakers: list[str]
    labels: str


@dataclass
class Data:
    """The utterances of a split that have labels, in stored order.

    `columns` has a tensor a key, a row an utterance: `features` as they are stored (frames as a ragged tensor) and what
    else `open_features` gives. It is None where features are read anew, from `dataset`, each time. Of a head that looks
    at other utterances they have `others`, the rows of these, and `known`, which of them there are: see `take`.
    """

    utterance_ids: list[str]
    labels: np.ndarray  # (N, targets)
    mean: np.ndarray  # of the features, (L, W) or (W,), as the variance
    variance: np.ndarray
    dataset: tf.data.Dataset
    columns: dict[str, tf.Tensor] | None
    speakers: list[str]  # of each utterance

    def fix_others(self, ablation: Ablation) -> None:
        """Let each utterance look at those that it looks at when it is predicted."""
        if ablation.attended:
            self._set_others(*fix_others(self.utterance_ids, self.speakers, ablation.attended, bool(ablation.permuted)))

    def draw_others(self, ablation: Ablation, rng: np.random.Generator) -> None:
        """Let each utterance look at others that are drawn anew."""
        if ablation.attended:
            chosen = ablation.attended, bool(ablation.permuted)
            self._set_others(*draw_others(self.utterance_ids, self.speakers, *chosen, rng))

    def _set_others(self, others: np.ndarray, known: np.ndarray) -> None:
        self.columns |= {"others": tf.constant(others), "known": tf.constant(known)}

    def batches(self, size: int) -> Iterator[dict[str, tf.Tensor]]:
        """Batches of all utterances, in order."""
        if self.columns is None:
            yield from batch(self.dataset, size)
        else:
            for start in range(0, len(self.utterance_ids), size):
                yield take(self.columns, tf.range(start, min(start + size, len(self.utterance_ids))))


def take(columns: dict[str, tf.Tensor], rows: tf.Tensor) -> dict[str, tf.Tensor]:
    """Rows of each column; frames padded with zeros to the longest, and in place of others' rows their features."""
    taken = {key: tf.gather(column, rows) for key, column in columns.items()}
    if "others" in taken:
        taken["others"] = tf.gather(columns["features"], taken["others"])
    return {key: value.to_tensor() if isinstance(value, tf.RaggedTensor) else value for key, value in taken.items()}


def read_split(
    split: Split,
    ablation: Ablation,
    shape: Shape,
    speakers: dict[str, np.ndarray] | None,
    targets: list[str],
    weights: dict[str, float] | None,
    keep: bool,
) -> Data:
    """Read a split once: ids, labels, the features' mean and variance, and all features where they are to be kept.

    `speakers` and `weights` are as `open_features` takes them. Raises DataError where nothing can be trained on, and
    with the file's name where a record is damaged.
    """
    labels = read_training_labels(split.labels, targets)
    companions = Companions.read(split.embeddings, ablation)
    dataset = open_features(split.embeddings, ablation, shape, speakers, labels, weights, companions)
    places = {utterance: place for place, utterance in enumerate(labels.utterance_ids)}
    frames = ablation.reads_frames
    store = _Store(split.embeddings) if keep else None
    rows, owners, lengths, count, total, squares = [], [], [], 0, 0.0, 0.0
    for records in read_blocks(split.embeddings, _BLOCK, places):
        parts = [companions.take(record) for record in records]
        block = np.concatenate(parts) if frames else np.stack(parts)  # (all frames, W), or (block, L, W), (block, W)
        if store:
            store.add(block)
        rows += [places[record.utterance_id] for record in records]
        owners += [record.speaker_id for record in records]
        lengths += [len(part) for part in parts]
        block = block.astype(np.float64)
        count += len(block)
        total = total + block.sum(axis=0)
        squares = squares + np.einsum("n...,n...->...", block, block)
    if not rows:
        raise DataError(f"{split.labels}: no utterance has both audio that can be used and labels")
    columns = None
    if store:
        columns = {
            "features": store.tensor(),
            "labels": tf.constant(labels.values[rows], tf.float32),
            "weight": tf.constant([[weights[owner] if weights else 1.0] for owner in owners], tf.float32),
        }
        if frames:
            columns["features"] = tf.RaggedTensor.from_row_lengths(columns["features"], lengths)
            columns["n_frames"] = tf.constant(lengths, tf.int32)[:, None]
        if speakers:
            columns["speaker"] = tf.constant(np.stack([speakers[owner] for owner in owners]))
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    utterance_ids = [labels.utterance_ids[row] for row in rows]
    return Data(utterance_ids, labels.values[rows].astype(np.float32), mean, variance, dataset, columns, owners)


class _Store:
    """Arrays one after the other, as a tensor that shares their memory: features would not fit there twice."""

    def __init__(self, paths: list[str]):
        # As large as the files (pages that are never written take no memory), and aligned as TensorFlow needs it.
        self._buffer = pa.allocate_buffer(sum(os.path.getsize(path) for path in paths))
        self._array, self._size, self._shape = None, 0, ()

    def add(self, block: np.ndarray) -> None:
        if self._array is None:
            self._array = np.frombuffer(self._buffer, block.dtype, len(self._buffer) // block.itemsize)
        self._array[self._size : self._size + block.size] = block.ravel()
        self._size, self._shape = self._size + block.size, block.shape[1:]

    def tensor(self) -> tf.Tensor:
        return tf.experimental.dlpack.from_dlpack(self._array[: self._size].reshape(-1, *self._shape).__dlpack__())
