"""Prediction: trained heads applied to a split, with the speaker vectors that calibration compares."""

from collections import defaultdict

import keras
import numpy as np
import pyarrow as pa
import tensorflow as tf

from ser.features import batch, naming_damage, open_features, read_shape, read_speakers, select_inputs
from ser.files import DataError, write_parquet
from ser.pldc import enrolment_order

_BATCH = 64
_VECTOR = pa.list_(pa.float32())
_ENROLLED = 20  # utterances of a speaker whose own vectors are kept: the most that enrolment is studied with


def load_heads(paths: dict[int, str]) -> dict[int, keras.Model]:
    """The saved models of each seed; a DataError names a file that is damaged."""
    models = {}
    for seed, path in paths.items():
        try:
            models[seed] = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever zipfile, h5py and json do
            raise DataError(f"{path}: is not a model that can be loaded ({error}); delete it and run again") from error
    return models


def predict_split(
    heads: dict[int, keras.Model],
    ablation: dict,
    embeddings: list[str],
    speakers: list[str],
    targets: list[str],
    results: str,
) -> None:
    """Predict a split with the heads of each seed, in one reading of its embeddings.

    Writes a Parquet file a seed and kind, to the path `results` with `{kind}` and `{seed}` filled in: `predictions`
    (a row an utterance, sorted by id), `speaker_vectors` (a row a speaker: the mean of its utterances' fused vectors)
    and `enrolment_vectors` (the fused vectors of a speaker's first utterances in enrolment order, a row each). They
    have no rows where every utterance was set aside.
    """
    vectors = None
    if ablation["speaker"] != "none":
        vectors = read_speakers(speakers, ablation["speaker"] == "mfcc_permuted")
    shape = read_shape(embeddings)
    batches = batch(open_features(embeddings, ablation, shape, vectors, None), _BATCH) if shape else ()

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(item):
        return [head(select_inputs(head, item), training=False) for head in heads.values()]

    utterance_ids: list[str] = []
    speaker_ids: list[str] = []
    labels: dict[int, list[np.ndarray]] = defaultdict(list)
    collected = {seed: _SpeakerVectors() for seed in heads}
    with naming_damage(embeddings):
        for item in batches:
            ids = [value.decode() for value in item["utterance_id"].numpy()]
            owners = [value.decode() for value in item["speaker_id"].numpy()]
            utterance_ids += ids
            speaker_ids += owners
            for seed, output in zip(heads, predict(item), strict=True):
                labels[seed].append(output["labels"].numpy())
                collected[seed].add(ids, owners, output["fused"].numpy())
    order = sorted(range(len(utterance_ids)), key=utterance_ids.__getitem__)
    for seed in heads:
        values = np.concatenate([np.empty((0, len(targets))), *labels[seed]])[order]
        columns = {
            "utterance_id": pa.array([utterance_ids[i] for i in order], pa.string()),
            "speaker_id": pa.array([speaker_ids[i] for i in order], pa.string()),
            **{target: pa.array(values[:, i], pa.float32()) for i, target in enumerate(targets)},
        }
        if not np.isfinite(values).all():
            raise DataError(f"seed {seed} predicts numbers that are not finite: choose a smaller learning_rate")
        write_parquet(results.format(kind="predictions", seed=seed), pa.table(columns))
        write_parquet(results.format(kind="speaker_vectors", seed=seed), collected[seed].means())
        write_parquet(results.format(kind="enrolment_vectors", seed=seed), collected[seed].enrolled())


class _SpeakerVectors:
    """Running means of utterance vectors by speaker, and the vectors of the first few in enrolment order."""

    def __init__(self):
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._first: dict[str, dict[str, np.ndarray]] = defaultdict(dict)

    def add(self, utterance_ids: list[str], speaker_ids: list[str], vectors: np.ndarray) -> None:
        for utterance, speaker, vector in zip(utterance_ids, speaker_ids, vectors, strict=True):
            self._sums[speaker] = self._sums.get(speaker, 0.0) + vector.astype(np.float64)
            self._counts[speaker] += 1
            first = self._first[speaker] | {utterance: vector.copy()}  # not a view that keeps its batch
            self._first[speaker] = {key: first[key] for key in enrolment_order(list(first))[:_ENROLLED]}

    def means(self) -> pa.Table:
        speakers = sorted(self._sums)
        vectors = [(self._sums[speaker] / self._counts[speaker]).astype(np.float32) for speaker in speakers]
        return pa.table({"speaker_id": pa.array(speakers, pa.string()), "vector": pa.array(vectors, _VECTOR)})

    def enrolled(self) -> pa.Table:
        rows = [
            (speaker, utterance, rank, vector)
            for speaker in sorted(self._first)
            for rank, (utterance, vector) in enumerate(self._first[speaker].items())
        ]
        columns = zip(*rows, strict=True) if rows else [()] * 4
        types = {"speaker_id": pa.string(), "utterance_id": pa.string(), "rank": pa.int64(), "vector": _VECTOR}
        return pa.table({name: pa.array(values, types[name]) for name, values in zip(types, columns, strict=True)})
