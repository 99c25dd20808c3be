"""Which recordings there are, and who speaks in them: a folder of speakers' folders, a sheet, or one file."""

import csv
import os
import re
from pathlib import Path

from ser_score.errors import UsageError

LONGEST = 500  # characters of a name
# Control characters of both kinds, lone halves of a surrogate pair, what ends a line, and what turns its direction.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")

Recordings = dict[str, dict[str, Path]]  # the files of each speaker, by the names that tables give them


def find_recordings(place: Path, speaker: str | None, sheet: Path | None) -> Recordings:
    """The files of each speaker, sorted; a UsageError for what has no speaker, or no name that can be used."""
    if sheet:
        return _group(_read_sheet(sheet, place))
    if place.is_dir() and speaker is None:
        return _group(_walk(place))
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
        return {_check(speaker): {_check(path.name): path for path in files}}
    if not place.exists():
        raise UsageError(f"{place}: there is no such file or folder")
    return {_check(speaker or place.stem): {_check(place.name): place}}


def _check(name: str) -> str:
    if not name or len(name) > LONGEST or (found := _UNFIT.search(name)):
        fault = (
            "is empty or too long" if not name or len(name) > LONGEST else f"has the character U+{ord(found[0]):04X}"
        )
        raise UsageError(f"the name {name[:LONGEST]!r} {fault}; rename it")
    return name


def _group(speakers: dict[str, tuple[str, Path]]) -> Recordings:
    groups: Recordings = {}
    for file, (speaker, path) in sorted(speakers.items()):
        groups.setdefault(_check(speaker), {})[_check(file)] = path
    if not groups:
        raise UsageError("there are no recordings: expected a folder for each speaker, with files in it")
    return dict(sorted(groups.items()))


def _walk(folder: Path) -> dict[str, tuple[str, Path]]:
    """By file its speaker, the folder that it is in, or that its folder is in; hidden files are left out."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            inner = path.relative_to(folder)
            if name.startswith("."):
                continue
            if len(inner.parts) == 1:
                raise UsageError(
                    f"{path} lies in no speaker's folder: expected {folder}/SPEAKER/{name}, a sheet with file,speaker "
                    "(--sheet), or --speaker NAME for a folder of one speaker"
                )
            found[inner.as_posix()] = (inner.parts[0], path)
    return found


def _read_sheet(sheet: Path, folder: Path) -> dict[str, tuple[str, Path]]:
    try:
        with open(sheet, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            rows = list(csv.DictReader(file, delimiter=max(",;\t", key=head.count)))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{sheet}: cannot be read as CSV ({error})") from None
    found = {}
    for number, row in enumerate(rows, 2):
        file, speaker = row.get("file"), row.get("speaker")
        if not file or not speaker:
            raise UsageError(f"{sheet}, row {number}: expected the columns file and speaker, with a value in each")
        name = os.path.normpath(file).replace(os.sep, "/")
        if os.path.isabs(file) or name.startswith("../") or name in found:
            raise UsageError(
                f"{sheet}, row {number}: file {file[:LONGEST]!r} is not inside {folder}, or listed already"
            )
        found[name] = (speaker, folder / name)
    return found
