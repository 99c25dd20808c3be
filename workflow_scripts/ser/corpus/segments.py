"""Parts of recordings: an utterance is a file, or what lies between two times in it."""

import math
import re

from ser.formats.manifest import format_time
from ser.text import shorten

NONE = (None, None)  # a whole file
_BLANK = {"", "nan", "nat", "none", "null", "<na>"}
_CLOCK = re.compile(r"(?:(\d+) days? ?\+?)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)|(\d+) days?")  # as pandas writes a time
_NAMED = re.compile(r"(.+)#t=(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?", re.S)

Part = tuple[float | None, float | None]  # start and end; None where the file's own


def parse_part(start: str, end: str) -> Part:
    """The part of a file that two cells name; blank ones are the file's own start and end.

    Raises ValueError, with what is wrong, for cells that are no times of any file.
    """
    first, last = _parse_time("start", start), _parse_time("end", end)
    if last is None and not first:
        return NONE
    first = first or 0.0
    if last is not None and first >= last:
        raise ValueError(f"starts at {first:g} s and ends at {last:g} s; expected an end after the start")
    return first, last


def _parse_time(name: str, cell: str) -> float | None:
    """Seconds, to a nanosecond; None for a blank cell."""
    if cell.casefold() in _BLANK:
        return None
    if found := _CLOCK.fullmatch(cell):
        days, hours, minutes, seconds, only = (float(part or 0) for part in found.groups())
        value = (((days + only) * 24 + hours) * 60 + minutes) * 60 + seconds
    else:
        try:
            value = math.nan if "_" in cell else float(cell)
        except ValueError:
            value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"has the {name} {shorten(cell)}; expected seconds from the file's beginning")
    return round(value, 9)


def name_part(file: str, part: Part) -> str:
    """The id of an utterance: the file, and of a part its times as W3C's media fragments have them (`#t=1.5,3.25`)."""
    start, end = map(format_time, part)
    return f"{file}#t={start},{end}".removesuffix(",") if start else file


def split_part(utterance_id: str) -> tuple[str, float, float | None]:
    """The file of an utterance's id, and the start and the end of the part that it names."""
    found = _NAMED.fullmatch(utterance_id)
    return (found[1], float(found[2]), float(found[3]) if found[3] else None) if found else (utterance_id, 0.0, None)
