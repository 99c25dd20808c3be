"""Prediction: trained heads applied to a split, with the speaker vectors that calibration compares."""

from collections import defaultdict

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from ser.config.ablation import Ablation
from ser.files import DataError
from ser.formats.parquet import write_parquet
from ser.formats.tfrecord import Record
from ser.heads.companions import Companions
from ser.heads.features import read_blocks
from ser.heads.inputs import find_vector, read_speakers
from ser.heads.model import apply_together
from ser.heads.model_file import check_model_file

_BATCH = 64
_VECTOR = pa.list_(pa.float32())


def load_heads(paths: dict[int, str]) -> dict[int, keras.Model]:
    """The saved models of each seed; a DataError names a file that is damaged."""
    models = {}
    for seed, path in paths.items():
        try:
            check_model_file(path)
            models[seed] = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever zipfile, h5py and json do
            raise DataError(f"{path}: is not a model that can be loaded ({error}); delete it and run again") from error
    return models


def predict_split(
    heads: dict[int, keras.Model],
    ablation: Ablation,
    embeddings: list[str],
    speakers: list[str],
    targets: list[str],
    results: str,
    enrols: bool = True,
) -> None:
    """Predict a split with the heads of each seed, in one reading of its embeddings.

    Writes a Parquet file a seed and kind, to the path `results` with `{kind}` and `{seed}` filled in: `predictions`
    (a row an utterance, sorted by id), `speaker_vectors` (a row a speaker: the mean of its utterances' fused vectors)
    and, where speakers can be enrolled, `enrolment_vectors` (each utterance's fused vector as float16, in the order of
    the predictions). They have no rows where every utterance was set aside.
    """
    vectors = read_speakers(speakers) if ablation.reads_speakers else None
    companions = Companions.read(embeddings, ablation)
    apply = apply_together(list(heads.values()))

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(item):
        outputs = apply(item, training=False)
        return [tf.stack([output[key] for output in outputs]) for key in ("labels", "fused")]

    utterance_ids: list[str] = []
    speaker_ids: list[str] = []
    labels: list[np.ndarray] = [np.empty((len(heads), 0, len(targets)), np.float32)]
    collected, kept = _SpeakerVectors(), []
    for records in read_blocks(embeddings, _BATCH):
        predicted, fused = (x.numpy() for x in predict(_arrange(records, companions, vectors)))  # (heads, B, ...)
        utterance_ids += [record.utterance_id for record in records]
        speaker_ids += [record.speaker_id for record in records]
        labels.append(predicted)
        collected.add(records, fused)
        kept += [fused.astype(np.float16)] if enrols else []
    order = sorted(range(len(utterance_ids)), key=utterance_ids.__getitem__)
    for i, (seed, values) in enumerate(zip(heads, np.concatenate(labels, axis=1)[:, order], strict=True)):
        columns = {
            "utterance_id": pa.array([utterance_ids[i] for i in order], pa.string()),
            "speaker_id": pa.array([speaker_ids[i] for i in order], pa.string()),
            **{target: pa.array(values[:, j], pa.float32()) for j, target in enumerate(targets)},
        }
        if not np.isfinite(values).all():
            raise DataError(f"seed {seed} predicts numbers that are not finite: choose a smaller learning_rate")
        write_parquet(results.format(kind="predictions", seed=seed), pa.table(columns))
        write_parquet(results.format(kind="speaker_vectors", seed=seed), collected.means(i))
        if enrols:
            vectors = np.concatenate([batch[i] for batch in kept])[order] if kept else np.empty((0, 0), np.float16)
            if not np.isfinite(vectors).all():
                raise DataError(f"seed {seed} has vectors beyond the range of float16: choose a smaller learning_rate")
            table = pa.table({name: columns[name] for name in ("utterance_id", "speaker_id")} | list_vectors(vectors))
            write_parquet(results.format(kind="enrolment_vectors", seed=seed), table)


def list_vectors(vectors: np.ndarray) -> dict[str, pa.Array]:
    """Vectors (rows, width) as the column `vector`."""
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return {"vector": pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))}


def _arrange(
    records: list[Record], companions: Companions, speakers: dict[str, np.ndarray] | None
) -> dict[str, np.ndarray]:
    """A batch of what heads take, as they are stored; frames padded with zeros to the longest."""
    parts = [companions.take(record) for record in records]
    item = {}
    if companions.ablation.reads_frames:
        lengths = np.array([[len(part)] for part in parts], np.int32)
        features = np.zeros((len(parts), lengths.max(), parts[0].shape[1]), parts[0].dtype)
        for row, part in zip(features, parts, strict=True):
            row[: len(part)] = part
        item = {"features": features, "n_frames": lengths}
    else:
        item = {"features": np.stack(parts)}
    if speakers:
        item["speaker"] = np.stack([find_vector(speakers, record.speaker_id) for record in records])
    if companions.ablation.attended:
        others, known = zip(*map(companions.list_others, records), strict=True)
        item |= {"others": np.stack(others), "known": np.stack(known)}
    return {key: tf.constant(value) for key, value in item.items()}


class _SpeakerVectors:
    """Of several heads: running sums of utterances' vectors by speaker."""

    def __init__(self):
        self._sums: dict[str, np.ndarray] = {}  # (heads, W) float64
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, records: list[Record], vectors: np.ndarray) -> None:
        for i, record in enumerate(records):
            self._sums[record.speaker_id] = self._sums.get(record.speaker_id, 0.0) + vectors[:, i].astype(np.float64)
            self._counts[record.speaker_id] += 1

    def means(self, head: int) -> pa.Table:
        speakers = sorted(self._sums)
        vectors = [(self._sums[speaker][head] / self._counts[speaker]).astype(np.float32) for speaker in speakers]
        return pa.table({"speaker_id": pa.array(speakers, pa.string()), "vector": pa.array(vectors, _VECTOR)})
