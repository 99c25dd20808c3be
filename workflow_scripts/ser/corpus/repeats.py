"""The same recording twice: what would be learned from is scored, or has two speakers."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator

_SMALLEST = 128  # bytes: what is smaller is no audio, and is set aside as such
_SHARED = 0.01  # s by which two parts may overlap: sheets round


def find_repeats(sheet, rows: list, digests: dict[str, str]) -> tuple[list[str], list[str]]:
    """Problems and warnings of rows whose recordings have the same content.

    Two rows of one content, or of overlapping parts of it, in two splits are a problem, as are two rows of the same
    part under two speakers. Of one speaker in one split they are counted.

    Args:
        rows: with `line`, `utterance_id`, `path`, `start`, `end`, `speaker_id` and `split`
        digests: the SHA-256 of each path
    """
    counts = Counter(digests[row.path] for row in rows)
    alike = defaultdict(list)
    for row in rows:
        if counts[digests[row.path]] > 1:
            alike[digests[row.path]].append(row)
    problems, repeated = [], []
    for digest, found in alike.items():
        if not digest or os.path.getsize(found[0].path) <= _SMALLEST:
            continue
        found.sort(key=lambda row: row.start or 0)
        problems += [
            f"{sheet}, row {row.line}: {row.utterance_id} is in split {row.split!r}, but {other.utterance_id} "
            f"of row {other.line} in {other.split!r}, and they have the same content, or parts of it that overlap; a "
            "recording belongs to one split: take one of the rows out"
            for row, other in _find_leaks(found)
        ]
        parts = {}
        for row in found:
            first = parts.setdefault((row.split, row.start, row.end), row)
            if first.speaker_id != row.speaker_id:
                problems.append(
                    f"{sheet}, row {row.line}: {row.utterance_id} is of speaker {row.speaker_id!r}, but "
                    f"{first.utterance_id} of {first.speaker_id!r} in row {first.line} has the same content; a "
                    "recording belongs to one speaker: take one of the rows out"
                )
            elif first is not row:
                repeated.append((row, first))
    if not repeated:
        return problems, []
    row, first = repeated[0]
    many = f"{len(repeated)} rows repeat" if len(repeated) > 1 else "a row repeats"
    return problems, [f"{sheet}: {many} a recording of their split, as row {row.line} that of row {first.line}"]


def _find_leaks(rows: list) -> Iterator[tuple]:
    """Each row that overlaps one of another split before it, with that one; rows of one content by their starts."""
    furthest = {}
    for row in rows:
        for split, other in furthest.items():
            if split != row.split and _end(other) - (row.start or 0) > _SHARED:
                yield row, other
                break
        if row.split not in furthest or _end(row) > _end(furthest[row.split]):
            furthest[row.split] = row


def _end(row) -> float:
    return math.inf if row.end is None else row.end
