"""Functionals of eGeMAPSv02 (Eyben et al., IEEE Transactions on Affective Computing 2016), by opensmile."""

import warnings
from collections.abc import Callable

import numpy as np

from ser.audio.frames import SAMPLE_RATE
from ser.config.speaker_vectors import check_installed


def open_egemaps() -> Callable[[np.ndarray], np.ndarray]:
    """What computes the functionals of an utterance, (n,) at 16 kHz -> (88,) float32.

    NaN of what is too short or has no voice in it, of which opensmile would say that its pitch, harmonics and formants
    are 0.
    """
    check_installed(["egemaps"])
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    voiced = smile.feature_names.index("VoicedSegmentsPerSec")

    def extract(samples: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "Segment too short": the answer, NaN, is counted
            values = smile.process_signal(samples, SAMPLE_RATE).to_numpy(np.float32)[0]
        return values if values[voiced] else np.full_like(values, np.nan)

    return extract
