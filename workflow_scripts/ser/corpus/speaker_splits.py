"""A split of one's own: the split of each speaker, from a file, in place of what the sheet says."""

from collections import Counter
from pathlib import Path

from ser.corpus.cells import raise_problems, read_columns
from ser.text import find_fault, shorten

KEY = "corpus.speaker_splits"


def read_speaker_splits(path: Path, splits: list[str]) -> dict[str, str]:
    """The split of each speaker that a CSV file with `speaker,split` names.

    Raises DataError, with the rows, for a split that is none of `splits` and for a speaker in two of them.
    """
    named: dict[str, str] = {}
    rows: dict[str, int] = {}
    problems = []
    for line, (speaker, split) in read_columns(path, ["speaker", "split"], KEY):
        where = f"{path}, row {line}"
        if fault := find_fault(speaker):
            problems.append(f"{where}: speaker {shorten(speaker)} is not a speaker id: it {fault}")
        elif split not in splits:
            problems.append(
                f"{where}: split {shorten(split)} is unknown; expected one of {', '.join(splits)} (train, validation "
                "and corpus.test_splits)"
            )
        elif named.setdefault(speaker, split) != split:
            problems.append(
                f"{where}: speaker {shorten(speaker)} is in split {split!r}, but in {named[speaker]!r} in row "
                f"{rows[speaker]}; a speaker belongs to one split"
            )
        rows.setdefault(speaker, line)
    raise_problems(problems)
    return named


def count_unnamed(path: Path, unnamed: Counter[str]) -> Counter[str]:
    """The utterances of speakers that the file does not name, counted as those left out are."""
    if not unnamed:
        return Counter()
    who = "a speaker" if len(unnamed) == 1 else f"{len(unnamed)} speakers"
    return Counter({f"{who} whom {path.name} does not name": unnamed.total()})


def list_absent(path: Path, absent: set[str]) -> list[str]:
    """A warning of the speakers whom the file names and the sheet does not."""
    if not absent:
        return []
    shown = ", ".join(map(repr, sorted(absent)[:5]))
    more = ", ..." if len(absent) > 5 else ""
    return [f"{path}: {len(absent)} of its speakers are not in the sheet ({shown}{more})"]
