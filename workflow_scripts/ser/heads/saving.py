"""Heads on disk: the same bytes for the same model, whichever backend of Keras it was trained on."""

import re
import zipfile

import keras

from ser.files import atomic


def save_model(path: str, model: keras.Model) -> None:
    """Save a model in Keras format, atomically, with the same bytes for the same model (no dates, no addresses)."""
    with atomic(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            parts = {name: archive.read(name) for name in sorted(archive.namelist())}
        parts["config.json"] = _number_shared(parts["config.json"])
        parts["metadata.json"] = f'{{"keras_version": "{keras.__version__}", "date_saved": ""}}'.encode()
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, content in parts.items():
                archive.writestr(zipfile.ZipInfo(name), content)


def _number_shared(config: bytes) -> bytes:
    """Keras knows the objects that layers share by their addresses in memory: number them in order instead."""
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+', lambda found: b"%d" % numbers.setdefault(found[0], len(numbers)), config
    )
