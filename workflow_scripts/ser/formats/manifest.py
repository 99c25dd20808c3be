"""Manifests: the small CSV files through which every later stage depends on the corpus."""

import csv
import hashlib
from pathlib import Path
from typing import NamedTuple

from ser.files import DataError, write_text


class Utterance(NamedTuple):
    """One row of a manifest. `sha256` is of the audio file's content, empty where it could not be read."""

    utterance_id: str
    path: str
    speaker_id: str
    sha256: str


def shard_of(speaker_id: str, shards: int) -> int:
    """The shard of a speaker: SHA-256 of the id modulo the number of shards, whatever other speakers there are."""
    return int.from_bytes(hashlib.sha256(speaker_id.encode()).digest()) % shards


def write_if_changed(path: Path, text: str) -> bool:
    """Write `text` unless the file already holds it, so that its modification time moves with its content only."""
    try:
        if path.read_bytes() == text.encode():
            return False
    except FileNotFoundError:
        pass
    write_text(path, text)
    return True


def read(path: str | Path) -> list[Utterance]:
    """The utterances of a manifest, in its order (sorted by id)."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if next(rows, None) == list(Utterance._fields):
                return [Utterance(*row) for row in rows]
    except (csv.Error, UnicodeDecodeError, TypeError) as error:
        raise DataError(f"{path}: is damaged ({error}); delete it and run again") from error
    raise DataError(f"{path}: is not a manifest; delete it and run again")
