"""The training speakers whose vectors stand for a speaker that pre-training never heard: those most similar."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ser.files import DataError
from ser.formats.parquet import read_parquet
from ser.statistics.similarity import rank_neighbours


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
