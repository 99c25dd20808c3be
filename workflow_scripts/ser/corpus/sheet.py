"""Corpora: a label sheet in one of the supported layouts, read into checked rows."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from ser.corpus.cells import SHOWN, raise_problems
from ser.corpus.label_range import check_range, check_scale, parse_label
from ser.corpus.layouts import Layout, find_layout
from ser.corpus.paths import Folder
from ser.corpus.segments import NONE, name_part, parse_part
from ser.corpus.speaker_splits import SpeakerSplits
from ser.corpus.speakers import find_alike, names_nobody
from ser.files import DataError
from ser.text import find_fault, shorten

UNKNOWN = "unknown"  # the group of speakers of whom the sheet says nothing


class Row(NamedTuple):
    """One utterance of the sheet. `labels` has one value per target, None where a test split withholds it."""

    line: int | str  # a row's number; in a database of several tables with the table's name
    utterance_id: str
    path: str
    speaker_id: str
    split: str
    labels: tuple[float | None, ...]
    groups: tuple[str, ...] = ()  # what the cells say, "" where they say nothing
    start: float | None = None  # of a part of the file, in seconds; None where the file's own
    end: float | None = None


@dataclass
class Corpus:
    """A corpus as its sheet describes it; rows sorted by utterance id."""

    sheet: Path
    folder: Folder  # of the audio
    rows: list[Row]
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)  # speaker -> value in each of `corpus.groups`
    left_out: Counter = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)  # what a user should know, and no reason to stop
    mended: bool = False  # whether paths were read as files of other spellings

    def mend_paths(self, known: Collection[str]) -> list[str]:
        """Give each row whose path is none of the `known` the one file that it means; problems of those without."""
        problems, mended = [], []
        listed = {(row.path, row.start, row.end): row.line for row in self.rows if row.path in known}
        for number, row in enumerate(self.rows):
            if row.path in known:
                continue
            where, written = f"{self.sheet}, row {row.line}", self.folder.relate(row.path)
            if (found := self.folder.find(written)) is None:
                hint = self.folder.explain(written) if len(problems) < SHOWN else ""
                problems.append(f"{where}: {row.path} is not on disk{hint}")
                continue
            path = self.folder.join(found)
            if (line := listed.setdefault((path, row.start, row.end), row.line)) != row.line:
                problems.append(f"{where}: {written!r} is {path}, which is listed already in row {line}")
            self.rows[number] = row._replace(path=path)
            mended.append(f"{written!r} in row {row.line} as {found!r}")
        if mended:
            self.mended = True
            many = f"{len(mended)} paths are read as the files" if len(mended) > 1 else "a path is read as the file"
            self.warnings.append(f"{self.sheet}: {many} that alone fit, {mended[0]}")
        return problems


def read_corpus(settings: dict) -> Corpus:
    """Read and check the sheet of a corpus (the `corpus` section of the config, defaults filled in).

    Raises DataError that lists what is wrong by file and row: a missing or duplicate column, a file listed twice or
    outside the audio folder, a label that is no number or out of range, a speaker in two splits, in two groups or with
    two spellings, an unknown split.
    """
    check_range(settings["label_range"])
    layout = find_layout(settings)
    own = SpeakerSplits(settings["speaker_splits"], list(layout.splits)) if settings["speaker_splits"] else None
    corpus = Corpus(layout.sheet, Folder(layout.audio), [])
    unknown = {name.casefold() for name in settings["unknown_speakers"]}
    columns, name = layout.names, str(layout.sheet)
    problems: list[str] = []
    listed: dict[tuple, int | str] = {}
    speakers: dict[str, tuple[str, int | str]] = {}
    unnamed: Counter[str] = Counter()
    for line, file, start, end, speaker, split_cell, label_cells, group_cells in layout.read():
        where = f"{name}, row {line}"
        try:
            path = corpus.folder.place(file)
        except ValueError as error:
            problems.append(f"{where}: {columns['file']} {error}")
            continue
        try:
            part = parse_part(start, end) if start or end else NONE
        except ValueError as error:
            problems.append(f"{where}: {shorten(file)} {error}")
            continue
        if (path, part) in listed:
            problems.append(f"{where}: {columns['file']} {file!r} is listed already in row {listed[path, part]}")
            continue
        listed[path, part] = line
        split = own.get(speaker) if own else layout.splits.get(split_cell)
        if split is None and not own:
            problems.append(
                f"{where}: {layout.split} {shorten(split_cell)} is unknown; expected one of {', '.join(layout.splits)}"
            )
            continue
        if speaker not in speakers:
            if names_nobody(speaker, unknown):
                corpus.left_out[f"{columns['speaker']} {speaker!r}"] += 1
                continue
            if fault := find_fault(speaker):
                problems.append(f"{where}: {columns['speaker']} {shorten(speaker)} is not a speaker id: it {fault}")
                continue
        first = speakers.setdefault(speaker, (split, line))
        if split is None:
            unnamed[speaker] += 1
            continue
        if first[0] != split:
            problems.append(
                f"{where}: speaker {speaker!r} is in split {split!r}, but in {first[0]!r} in row {first[1]}; "
                "a speaker belongs to one split"
            )
        labels = tuple(map(parse_label, label_cells))
        if None in labels:
            problems += _check_labels(where, layout, settings["label_range"], split, label_cells, labels)
        utterance = path if file.startswith("/") else file  # an id tells no machine's folders
        utterance = name_part(utterance, part) if part != NONE else utterance
        place = corpus.folder.join(path)
        corpus.rows.append(Row(line, utterance, place, speaker, split, labels, group_cells, *part))
    places = {speaker: f"{name}, row {line}" for speaker, (_, line) in speakers.items()}
    problems += find_alike(places, settings["speakers_differ"])
    problems += own.check(speakers, settings["speakers_differ"]) if own else []
    wrong, corpus.warnings = check_scale(
        corpus.rows, {target: columns[target] for target in layout.targets}, settings["label_range"], name
    )
    problems += wrong
    corpus.rows.sort(key=attrgetter("utterance_id"))
    problems += [
        f"{name}, row {row.line}: {row.utterance_id!r} is also what row {other.line} is called; rename a file"
        for other, row in pairwise(corpus.rows)
        if row.utterance_id == other.utterance_id
    ]
    problems += _check_withheld(corpus, layout)
    problems += _group_speakers(corpus, layout)
    raise_problems(problems)
    if own:
        corpus.left_out += own.count_unnamed(unnamed)
        corpus.warnings += own.list_absent(speakers)
    for split in ("train", "validation"):
        if not any(row.split == split for row in corpus.rows):
            fault = f"{own or name}: no utterance of a known speaker is in split {split!r}; training needs both"
            left_out = [f"{name}: {count} utterances of {what} left out" for what, count in corpus.left_out.items()]
            raise DataError("\n".join([*corpus.warnings, *left_out[:3], fault]))
    return corpus


def _check_labels(where: str, layout: Layout, scale: list[float], split: str, cells: tuple, labels: tuple) -> list[str]:
    """Problems of a row's labels that are no numbers; a test split may withhold them."""
    lowest, highest = scale
    return [
        f"{where}: {layout.names[target]} {shorten(cell)} is not a number from {lowest:g} to {highest:g}, "
        "which is corpus.label_range"
        for target, cell, label in zip(layout.targets, cells, labels, strict=True)
        if label is None and (cell or split in ("train", "validation"))
    ]


def _check_withheld(corpus: Corpus, layout: Layout) -> list[str]:
    """A test split gives a target's label for all of its utterances or for none: a lone blank is a mistake."""
    total, blank, first = Counter(), Counter(), {}
    for row in corpus.rows:
        total[row.split] += 1
        if None in row.labels:
            for target, label in zip(layout.targets, row.labels, strict=True):
                if label is None:
                    blank[row.split, target] += 1
                    first.setdefault((row.split, target), row.line)
    return [
        f"{corpus.sheet}, row {first[key]}: {key[1]} is blank, but {total[key[0]] - count} other utterances of split "
        f"{key[0]!r} have it; give it for all, or for none where it is withheld"
        for key, count in blank.items()
        if count < total[key[0]] and key[0] not in ("train", "validation")
    ]


def _group_speakers(corpus: Corpus, layout: Layout) -> list[str]:
    """Fill `corpus.groups`. A group is of speakers: one with two values is a mistake, a blank cell says nothing."""
    first: dict[tuple[str, str], tuple[str, int | str]] = {}
    columns = [layout.names[group] for group in layout.groups]
    problems = []
    for row in corpus.rows if layout.groups else ():
        for column, cell in zip(columns, row.groups, strict=True):
            where = f"{corpus.sheet}, row {row.line}: {column}"
            if cell and (fault := find_fault(cell)):
                problems.append(f"{where} {shorten(cell)} {fault}")
            elif cell.casefold() not in ("", UNKNOWN):
                value, line = first.setdefault((row.speaker_id, column), (cell, row.line))
                if cell != value:
                    problems.append(
                        f"{where} of speaker {shorten(row.speaker_id)} is {shorten(cell)}, but {shorten(value)} in "
                        f"row {line}; a group is made of speakers: give each one value, or none"
                    )
        corpus.groups[row.speaker_id] = ()
    for speaker in corpus.groups:
        corpus.groups[speaker] = tuple(first.get((speaker, c), (UNKNOWN,))[0] for c in columns)
    return problems
