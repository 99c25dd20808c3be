"""What an encoder's input must be like: the feature extractor of a folder in Hugging Face format."""

import logging
from pathlib import Path

from transformers import Wav2Vec2FeatureExtractor

from ser.audio.frames import SAMPLE_RATE
from ser.files import DataError, read_json
from ser.formats.encoder_folder import PREPROCESSOR, PROCESSOR

log = logging.getLogger(__name__)

NESTED = ("feature_extractor", "audio_processor")  # keys of a processor's file


def read_extractor(folder: Path) -> Wav2Vec2FeatureExtractor:
    """The feature extractor of a folder; without one HuBERT's own, with a warning.

    Raises DataError, naming file and key, for another sampling rate, for more values than one a sample, and for what
    is no configuration.
    """
    found = read_settings(folder)
    if found is None:
        log.warning("%s: has no %s; using HuBERT's own: 16 kHz, do_normalize true", folder, PREPROCESSOR)
        return Wav2Vec2FeatureExtractor(do_normalize=True)
    path, values = found
    for key, expected in {"sampling_rate": SAMPLE_RATE, "feature_size": 1}.items():
        if values.get(key, expected) != expected:
            raise DataError(f"{path}: {key} is {values[key]!r}, expected {expected}")
    if not isinstance(values.get("do_normalize", True), bool):
        raise DataError(f"{path}: do_normalize is {values['do_normalize']!r}, expected true or false")
    return Wav2Vec2FeatureExtractor(do_normalize=values.get("do_normalize", True))


def read_settings(folder: Path) -> tuple[Path, dict] | None:
    """The settings of a folder's feature extractor, and the file that has them; None where none has.

    As in transformers those inside a processor's file come first, which are all that transformers 5 writes of a
    processor; an older processor's file has none.
    """
    if (path := folder / PROCESSOR).exists():
        values = _read(path)
        for key in NESTED:
            if key in values:
                return path, _expect_keys(path, values[key], f"{key} ")
    return (path, _read(path)) if (path := folder / PREPROCESSOR).exists() else None


def _read(path: Path) -> dict:
    return _expect_keys(path, read_json(path))


def _expect_keys(path: Path, values, what: str = "") -> dict:
    if not isinstance(values, dict):
        raise DataError(f"{path}: {what}is no configuration; expected keys and values")
    return values
