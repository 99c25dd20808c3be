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
    def is_part(self) -> bool:
        return self.start is not None or self.end is not None

    @property
    def source(self) -> dict:
        """What to decode, as `audio.decode.load` takes it."""
        return {"path": self.path, "sha256": self.sha256, "start": self.start, "stop": self.end}

    @property
    def content(self) -> str:
        """What is heard, wherever the file is: its SHA-256, and of a part its times in seconds."""
        return name_content(self.sha256, self.start, self.end)


def name_content(sha256: str, start: float | None, end: float | None) -> str:
    """As `Utterance.content`; an end that is the file's is `-`."""
    whole = start is None and end is None
    return sha256 if whole else f"{sha256} {format_time(start) or 0} {format_time(end) or '-'}"


def format_time(seconds: float | None) -> str:
    """Seconds, to a nanosecond, as short as can be; "" for none."""
    return "" if seconds is None else f"{seconds:.9f}".rstrip("0").rstrip(".")


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
