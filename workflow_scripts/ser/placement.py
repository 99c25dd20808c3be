"""Vectors of speakers for a personalised encoder: a speaker's own, or the mean of similar training speakers'."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ser import tfrecord
from ser.files import DataError, read_parquet, write_json
from ser.manifest import read as read_manifest
from ser.pldc import rank_neighbours
from ser.tensors import read_tensors


def place_speakers(means: dict[str, np.ndarray], trained: list[str], k: int) -> dict[str, list[str]]:
    """For each speaker of `means` that has no vector of its own, the k most similar that have one.

    `means` are speakers' mean-pooled features, (W,), of one encoder; similarity is their cosine. Without retraining,
    the mean of these neighbours' vectors stands for a speaker that pre-training never heard (Tran et al. 2023).
    """
    known = [speaker for speaker in trained if speaker in means]
    unseen = sorted(set(means) - set(trained))
    if not unseen:
        return {}
    if not known:
        raise DataError("none of the speakers that the encoder has vectors for is in the features it is compared by")
    order, _ = rank_neighbours(np.stack([means[name] for name in unseen]), np.stack([means[name] for name in known]))
    return {speaker: [known[i] for i in row[:k]] for speaker, row in zip(unseen, order, strict=True)}


def read_means(summaries: Iterable[str | Path]) -> dict[str, np.ndarray]:
    """Speakers' mean features, (W,) float32, from an encoder's summaries (`summaries.summarise_embeddings`)."""
    means = {}
    for path in summaries:
        table = read_parquet(path, ["speaker_id", "mean"])
        for speaker, mean in zip(table["speaker_id"].to_pylist(), table["mean"].to_pylist(), strict=True):
            means[speaker] = np.asarray(mean, np.float32)
    return means


def write_shard(
    manifest: str, head: str, known_means: list[str], embeddings: str | None, k: int | None, path: str | Path
) -> None:
    """Write `{speaker_id: [W floats]}` for the speakers of a shard (JSON).

    Args:
        manifest: the shard's manifest
        head: the encoder's `adaptation.safetensors`
        known_means: summaries by speaker, of the splits that pre-training heard, by the encoder that speakers are
            compared by; none where it heard this shard's
        embeddings: this shard's embeddings by that encoder, or None; a speaker without any is left out
        k: neighbours of a speaker without a vector of its own; None without `embeddings`
    """
    vectors = read_vectors(head)
    speakers = {utterance.speaker_id for utterance in read_manifest(manifest)}
    own = {speaker: vectors[speaker] for speaker in speakers & set(vectors)}
    if embeddings:
        means = {name: mean for name, mean in read_means(known_means).items() if name in vectors}
        means |= {name: mean for name, mean in _mean_embeddings(embeddings).items() if name not in vectors}
        for speaker, names in place_speakers(means, list(vectors), k).items():
            own[speaker] = np.mean([vectors[name] for name in names], axis=0)
    write_json(path, {speaker: own[speaker].astype(float).tolist() for speaker in sorted(own)})


def read_vectors(head: str | Path) -> dict[str, np.ndarray]:
    """The vectors, (W,) float32, of the speakers that pre-training heard, from `adaptation.safetensors`."""
    tensors, metadata = read_tensors(head)
    if "speakers" not in metadata or "speaker_vectors" not in tensors:
        raise DataError(f"{head}: holds no vectors of speakers; delete it and run again")
    return dict(zip(json.loads(metadata["speakers"]), tensors["speaker_vectors"], strict=True))


def _mean_embeddings(path: str) -> dict[str, np.ndarray]:
    """Speakers' means of the last layer's pooled vectors, (W,) float32, as `summaries` has them."""
    vectors: dict[str, list[np.ndarray]] = {}
    for record in tfrecord.read(path):
        vectors.setdefault(record.speaker_id, []).append(record.embedding[-1].astype(np.float64))
    return {speaker: np.mean(values, axis=0).astype(np.float32) for speaker, values in vectors.items()}
