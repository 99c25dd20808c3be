"""An utterance's part in its speaker's vector, from its samples: one function for each kind of vectors."""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ser.audio.frames import SAMPLE_RATE
from ser.audio.mfcc import mean_mfcc
from ser.config.speaker_vectors import check_installed
from ser.files import DataError
from ser.speakers.averages import average_utterances

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
        from ser.encoders.opening import open_encoder

        encoder = open_encoder(folder, device)
        return lambda samples: encoder.embed([samples], None)[0].pooled[layer]
    if kind == "model":
        from ser.speakers.xvector import XVector

        return XVector(folder, device)
    raise DataError(f"vectors of kind {kind} are not made from audio")


def describe_speaker(extract: Extractor, utterances: Iterable[np.ndarray]) -> np.ndarray | None:
    """The vector of a speaker from the samples of its utterances, (W,) float64; None where none has an answer."""
    return average_utterances(map(extract, utterances))[0]


def open_egemaps() -> Extractor:
    """The functionals of eGeMAPSv02 (Eyben et al. 2016), (88,) float32, by opensmile; NaN of what is too short."""
    check_installed(["egemaps"])
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)

    def extract(samples: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Segment too short": the answer, NaN, is counted
            return smile.process_signal(samples, SAMPLE_RATE).to_numpy(np.float32)[0]

    return extract
