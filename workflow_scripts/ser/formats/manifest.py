"""Manifests: the small CSV files through which every later stage depends on the corpus."""

import csv
import hashlib
from pathlib import Path
from typing import NamedTuple

from ser.files import DataError, write_text


class Utterance(NamedTuple):
    """One row of a manifest. `sha256` is of the audio file's content, empty where it could not be read.

    Of a part of a file, `start` and `end` say which, in seconds; one that is None is the file's own. A manifest without
    parts does not have these columns.
    """

    utterance_id: str
    path: str
    speaker_id: str
    sha256: str
    start: float | None = None
    end: float | None = None

    @property
    def part(self) -> dict[str, float | None]:
        """Which part of the file to decode."""
        return {"start": self.start, "stop": self.end}


COLUMNS = Utterance._fields[:4]
PART_COLUMNS = Utterance._fields


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
            header = tuple(next(rows, ()))
            if header in (COLUMNS, PART_COLUMNS):
                return [_parse(row, len(header)) for row in rows]
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: is damaged ({error}); delete it and run again") from error
    raise DataError(f"{path}: is not a manifest; delete it and run again")


def _parse(row: list[str], cells: int) -> Utterance:
    if len(row) != cells:
        raise ValueError(f"a row has {len(row)} cells")
    return Utterance(*row[:4], *(float(time) if time else None for time in row[4:]))
