"""What the training audio was like, so that a runner can say which recordings are not."""

import math
from collections.abc import Iterable

import numpy as np

from ser.audio.frames import SAMPLE_RATE
from ser.audio.mfcc import FRAME, N_COEFFICIENTS, N_MELS, mel_weights
from ser.files import read_json
from ser.formats.parquet import read_parquet

SHARES = (0.005, 0.995)  # of the training utterances that lie below the ends of a range
SPEECH, TREBLE = (300, 3400), 4000  # Hz: what a telephone passes, and what it does not
MARGIN = 6  # dB by which the treble may be beyond all training speakers'


def describe_audio(facts: Iterable[str], speakers: Iterable[str]) -> dict:
    """Ranges of the training audio, `[low, high]`: `level_db`, `seconds`, and `treble_db` with its `treble_weights`.

    The treble is how much louder it is above 4 kHz than between 300 and 3,400 Hz: of audio that was once narrow, 20 dB
    less or more, whatever its sampling rate says now. It is a weighted sum of averaged MFCCs, which are a smooth
    spectrum; of training speakers these are known.

    Args:
        facts: tables of audio facts, of the training split
        speakers: averaged MFCCs of its speakers
    """
    rows = [row for path in facts for row in read_parquet(path, ["status", "duration_s", "rms_db"]).to_pylist()]
    rows = [row for row in rows if row["status"] == "ok"]
    weights = _weigh_treble()
    treble = [weights @ np.array(entry["mfcc"]) for path in speakers for entry in read_json(path).values()]
    return {
        "level_db": np.quantile([row["rms_db"] for row in rows], SHARES).tolist(),
        "seconds": np.quantile([row["duration_s"] for row in rows], SHARES).tolist(),
        "treble_db": [min(treble) - MARGIN, max(treble) + MARGIN],
        "treble_weights": weights.tolist(),
    }


def _weigh_treble() -> np.ndarray:
    """(13,): the mean of the bands above 4 kHz minus that of a telephone's bands, of the spectrum that MFCCs are."""
    centres = mel_weights().argmax(axis=1) * SAMPLE_RATE / FRAME
    high, low = centres >= TREBLE, (centres >= SPEECH[0]) & (centres <= SPEECH[1])
    order, band = np.arange(N_COEFFICIENTS)[:, None], np.arange(N_MELS)[None, :]
    spectra = math.sqrt(2 / N_MELS) * np.cos(math.pi * order * (2 * band + 1) / (2 * N_MELS))  # rows of the DCT
    spectra[0] /= math.sqrt(2)
    return spectra[:, high].mean(axis=1) - spectra[:, low].mean(axis=1)
