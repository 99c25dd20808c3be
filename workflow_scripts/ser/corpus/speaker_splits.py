"""A split of one's own: the split of each speaker, from a file, in place of what the sheet says."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from ser.corpus.cells import raise_problems, read_columns
from ser.corpus.speakers import match_names
from ser.text import find_fault, shorten


class SpeakerSplits:
    """The split of each speaker that a CSV file with `speaker,split` names (`corpus.speaker_splits`).

    Raises DataError, with the rows, for a split that is none of `splits` and for a speaker in two of them.
    """

    def __init__(self, path: str, splits: list[str]):
        self.path = Path(path)
        self.named: dict[str, str] = {}
        self.lines: dict[str, int] = {}
        problems = []
        for line, (speaker, split) in read_columns(self.path, ["speaker", "split"], "corpus.speaker_splits"):
            where = f"{path}, row {line}"
            if fault := find_fault(speaker):
                problems.append(f"{where}: speaker {shorten(speaker)} is not a speaker id: it {fault}")
            elif split not in splits:
                problems.append(
                    f"{where}: split {shorten(split)} is unknown; expected one of {', '.join(splits)} (train, "
                    "validation and corpus.test_splits)"
                )
            elif self.named.setdefault(speaker, split) != split:
                problems.append(
                    f"{where}: speaker {shorten(speaker)} is in split {split!r}, but in {self.named[speaker]!r} in row "
                    f"{self.lines[speaker]}; a speaker belongs to one split"
                )
            self.lines.setdefault(speaker, line)
        raise_problems(problems)

    def __str__(self) -> str:
        return str(self.path)

    def get(self, speaker: str) -> str | None:
        return self.named.get(speaker)

    def check(self, speakers: Collection[str], differ: list[str] | bool) -> list[str]:
        """A problem for each speaker whom the file names as the sheet does but for the spelling."""
        absent = [name for name in self.named if name not in speakers]
        found = {} if differ is True else match_names(absent, speakers)
        return [
            f"{self.path}, row {self.lines[name]}: speaker {shorten(name)} is {shorten(found[name])} in the sheet: "
            "spell it as there (or list it in corpus.speakers_differ if these are two people)"
            for name in absent
            if name in found and not {name, found[name]}.intersection(differ or ())
        ]

    def count_unnamed(self, unnamed: Counter[str]) -> Counter[str]:
        """The utterances of speakers whom the file does not name, counted as those left out are."""
        if not unnamed:
            return Counter()
        who = "a speaker" if len(unnamed) == 1 else f"{len(unnamed)} speakers"
        return Counter({f"{who} whom {self.path.name} does not name": unnamed.total()})

    def list_absent(self, speakers: Collection[str]) -> list[str]:
        """A warning of the speakers whom the file names and the sheet does not."""
        absent = sorted(name for name in self.named if name not in speakers)
        if not absent:
            return []
        shown = ", ".join(map(repr, absent[:5])) + (", ..." if len(absent) > 5 else "")
        return [f"{self.path}: {len(absent)} of its speakers are not in the sheet ({shown})"]
