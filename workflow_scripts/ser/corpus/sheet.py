"""Corpora: a label sheet in one of the supported layouts, read into checked rows."""

import math
import posixpath
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from ser.corpus.audformat import Database
from ser.corpus.cells import raise_problems, read_columns
from ser.corpus.speaker_splits import count_unnamed, list_absent, read_speaker_splits
from ser.files import DataError
from ser.text import find_fault, shorten

MSP_SHEETS = ("labels_consensus.csv", "labels_concensus.csv")  # the second is how older releases spell it
MSP_TARGETS = {"valence": "EmoVal", "arousal": "EmoAct", "dominance": "EmoDom"}
MSP_GROUPS = {"gender": "Gender"}
MSP_SPLITS = {
    "Train": "train",
    "Development": "validation",
    "Validation": "validation",
    "Test1": "test1",
    "Test2": "test2",
    "Test3": "test3",
}
_AUDIO = {"csv": "audio", "msp_podcast": "Audios", "audformat": ""}  # the layouts' own folders
UNKNOWN = "unknown"  # the group of speakers of whom the sheet says nothing


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance of the sheet. `labels` has one value per target, None where a test split withholds it."""

    line: int | str  # a row's number; in a database of several tables with the table's name
    utterance_id: str
    path: str
    speaker_id: str
    split: str
    labels: tuple[float | None, ...]
    groups: tuple[str, ...] = ()  # what the cells say, "" where they say nothing


@dataclass
class Corpus:
    """A corpus as its sheet describes it; rows sorted by utterance id."""

    sheet: Path
    rows: list[Row]
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)  # speaker -> value in each of `corpus.groups`
    left_out: Counter = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)  # what a user should know, and no reason to stop


@dataclass(frozen=True)
class _Layout:
    file: str
    speaker: str
    split: str | None  # None where `corpus.speaker_splits` says it
    targets: dict[str, str]  # target -> column
    splits: dict[str, str]  # value in the sheet -> split
    groups: dict[str, str]  # group -> column
    tables: dict[str, str] | str | None = None  # of a database in audformat


def read_corpus(settings: dict) -> Corpus:
    """Read and check the sheet of a corpus (the `corpus` section of the config, defaults filled in).

    Raises DataError that lists what is wrong by file and row: a missing or duplicate column, a file listed twice or
    outside the audio folder, a label that is no number or out of range, a speaker in two splits or in two groups, an
    unknown split.
    """
    folder = Path(settings["folder"])
    layout, sheet = _find_layout(settings, folder)
    own = Path(settings["speaker_splits"]) if settings["speaker_splits"] else None
    named = read_speaker_splits(own, list(layout.splits)) if own else {}
    unnamed: Counter[str] = Counter()
    audio = posixpath.join(settings["folder"], settings["audio"] or _AUDIO[settings["layout"]])
    corpus, name = Corpus(sheet, []), str(sheet)
    problems: list[str] = []
    unknown = {name.casefold() for name in settings["unknown_speakers"]}
    lowest, highest = settings["label_range"]
    lines: dict[str, int] = {}
    speakers: dict[str, tuple[str, int]] = {}
    for line, cells in _read_cells(sheet, layout) if layout.tables is None else _read_tables(sheet, layout):
        file, speaker, split_cell, label_cells, group_cells = cells
        where = f"{name}, row {line}"
        path = posixpath.normpath(file)
        if file and (fault := find_fault(file)):
            problems.append(f"{where}: {layout.file} {shorten(file)} is not a path inside the audio folder: it {fault}")
            continue
        if not file or file.startswith("/") or path.split("/")[0] == "..":
            problems.append(f"{where}: {layout.file} {file!r} is not a path inside the audio folder")
            continue
        if path in lines:
            problems.append(f"{where}: {layout.file} {file!r} is listed already in row {lines[path]}")
            continue
        lines[path] = line
        split = named.get(speaker) if own else layout.splits.get(split_cell)
        if split is None and not own:
            problems.append(
                f"{where}: {layout.split} {shorten(split_cell)} is unknown; expected one of {', '.join(layout.splits)}"
            )
            continue
        if speaker not in speakers and (fault := find_fault(speaker)):
            problems.append(f"{where}: {layout.speaker} {shorten(speaker)} is not a speaker id: it {fault}")
            continue
        if speaker.casefold() in unknown:
            corpus.left_out[f"{layout.speaker} {speaker!r}"] += 1
            continue
        if split is None:
            unnamed[speaker] += 1
            continue
        first = speakers.setdefault(speaker, (split, line))
        if first[0] != split:
            problems.append(
                f"{where}: speaker {speaker!r} is in split {split!r}, but in {first[0]!r} in row {first[1]}; "
                "a speaker belongs to one split"
            )
        labels = []
        for (target, column), cell in zip(layout.targets.items(), label_cells, strict=True):
            value = _parse_label(cell, lowest, highest)
            if value is None and not (cell == "" and split not in ("train", "validation")):
                problems.append(
                    f"{where}: {column} {shorten(cell)} is not a number from {lowest:g} to {highest:g} ({target})"
                )
            labels.append(value)
        corpus.rows.append(
            Row(line, file, posixpath.join(audio, path), speaker, split, tuple(labels), tuple(group_cells))
        )
    corpus.rows.sort(key=lambda row: row.utterance_id)
    problems += _check_withheld(corpus, layout)
    problems += _group_speakers(corpus, layout)
    raise_problems(problems)
    if own:
        corpus.left_out += count_unnamed(own, unnamed)
        corpus.warnings += list_absent(own, set(named) - set(speakers))
    for split in ("train", "validation"):
        if not any(row.split == split for row in corpus.rows):
            what = f"{own or sheet}: no utterance of a known speaker is in split {split!r}; training needs both"
            raise DataError("\n".join([*corpus.warnings, what]))
    return corpus


def _find_layout(settings: dict, folder: Path) -> tuple[_Layout, Path]:
    """The layout of a corpus and its sheet. With `speaker_splits` the splits are those of the config in any layout."""
    layout, sheet = _find_own_layout(settings, folder)
    if settings["speaker_splits"]:
        layout = replace(layout, split=None, splits=_name_splits(settings))
    return layout, sheet


def _name_splits(settings: dict) -> dict[str, str]:
    return {name: name for name in ("train", "validation", *settings["test_splits"])}


def _find_own_layout(settings: dict, folder: Path) -> tuple[_Layout, Path]:
    targets = settings["targets"]
    splits = _name_splits(settings)
    if settings["layout"] == "audformat":
        tables, names = settings["tables"], settings["columns"]
        splits = {name: name for name in tables} if isinstance(tables, dict) else splits | {"dev": "validation"}
        columns = {target: names.get(target, target) for target in targets}
        groups = {group: names.get(group, group) for group in settings["groups"]}
        speaker, split = names.get("speaker", "speaker"), names.get("split", "split")
        layout = _Layout("file", speaker, split, columns, splits, groups, tables)
        return layout, folder / (settings["sheet"] or "db.yaml")
    if settings["layout"] == "csv":
        groups = {group: group for group in settings["groups"]}
        layout = _Layout("file", "speaker", "split", {target: target for target in targets}, splits, groups)
        return layout, folder / (settings["sheet"] or "labels.csv")
    unknown = [target for target in targets if target not in MSP_TARGETS]
    if unknown:
        raise DataError(f"corpus.targets: {unknown[0]!r} is not in layout msp_podcast; it has {', '.join(MSP_TARGETS)}")
    columns = {target: MSP_TARGETS[target] for target in targets}
    groups = {group: MSP_GROUPS.get(group, group) for group in settings["groups"]}
    layout = _Layout("FileName", "SpkrID", "Split_Set", columns, MSP_SPLITS, groups)
    if settings["sheet"]:
        return layout, folder / settings["sheet"]
    for name in MSP_SHEETS:
        if (folder / "Labels" / name).is_file():
            return layout, folder / "Labels" / name
    raise DataError(f"{folder / 'Labels'}: holds neither {' nor '.join(MSP_SHEETS)}; name the sheet in corpus.sheet")


def _read_tables(sheet: Path, layout: _Layout):
    columns = layout.targets.values(), layout.groups.values()
    return Database(sheet).read_rows(layout.tables, layout.speaker, layout.split, *columns)


def _read_cells(sheet: Path, layout: _Layout):
    splits = [] if layout.split is None else [layout.split]
    wanted = [layout.file, layout.speaker, *splits, *layout.targets.values(), *layout.groups.values()]
    first = 2 + len(splits)
    last = first + len(layout.targets)
    for line, cells in read_columns(sheet, wanted, "corpus.folder and corpus.sheet"):
        file, speaker, *split = cells[:first]
        yield line, (file, speaker, *(split or [""]), cells[first:last], cells[last:])


def _parse_label(cell: str, lowest: float, highest: float) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    if "_" in cell:  # Python's way to group digits
        return None
    return value if math.isfinite(value) and lowest <= value <= highest else None


def _check_withheld(corpus: Corpus, layout: _Layout) -> list[str]:
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


def _group_speakers(corpus: Corpus, layout: _Layout) -> list[str]:
    """Fill `corpus.groups`. A group is of speakers: one with two values is a mistake, a blank cell says nothing."""
    first: dict[tuple[str, str], tuple[str, int | str]] = {}
    problems = []
    for row in corpus.rows if layout.groups else ():
        for column, cell in zip(layout.groups.values(), row.groups, strict=True):
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
        corpus.groups[speaker] = tuple(first.get((speaker, c), (UNKNOWN,))[0] for c in layout.groups.values())
    return problems
