"""A speaker's vector from the samples of its utterances: one entry for each kind of vectors that audio gives."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ser.audio.mfcc import mean_mfcc
from ser.encoders.opening import open_encoder
from ser.files import DataError
from ser.speakers.averages import average_utterances
from ser.speakers.egemaps import open_egemaps

Extractor = Callable[[np.ndarray], np.ndarray]  # samples, (n,) mono at 16 kHz -> (W,); NaN where there is no answer


def open_extractor(kind: str, folder: str | Path | None = None, *, layer: int = -1, device: str = "cpu") -> Extractor:
    """What computes an utterance's vector of a kind, the same alone as in company.

    Args:
        folder: of `embeddings` the encoder's, of `model` the speaker model's, in the workflow's form
        layer: of `embeddings`, which one
    """
    if kind == "mfcc":
        return mean_mfcc
    if kind == "egemaps":
        return open_egemaps()
    if kind == "embeddings":
        encoder = open_encoder(folder, device)
        return lambda samples: encoder.embed([samples], None)[0].pooled[layer]
    if kind == "model":
        from ser.speakers.xvector import XVector  # torch

        return XVector(folder, device)
    raise DataError(f"vectors of kind {kind} are not made from audio")


def describe_speaker(extract: Extractor, utterances: Iterable[np.ndarray]) -> np.ndarray | None:
    """The vector of a speaker from the samples of its utterances, (W,) float64; None where none has an answer."""
    return average_utterances(map(extract, utterances))[0]
