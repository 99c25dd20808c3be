"""Heads on disk, with the history of their training: the same bytes for the same model, whichever Keras trained it."""

import csv
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

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


def write_history(path: str | Path, rows: Iterable[tuple]) -> None:
    """Write `history.csv`, sorted by epoch and target; not by `csv_files`, an edit of which would train anew."""
    header = ("epoch", "target", "loss", "validation_ccc", "best")
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *sorted(rows)])


def _number_shared(config: bytes) -> bytes:
    """Keras knows the objects that layers share by their addresses in memory: number them in order instead."""
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+', lambda found: b"%d" % numbers.setdefault(found[0], len(numbers)), config
    )
