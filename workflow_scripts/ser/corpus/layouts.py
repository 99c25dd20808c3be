"""The layouts of corpora: which sheet each has, what its columns are called, and which splits it knows."""

import difflib
import glob
import itertools
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ser.corpus.audformat import Database
from ser.corpus.cells import read_columns
from ser.files import DataError

MSP_SHEETS = ("labels_consensus.csv", "labels_concensus.csv")  # the second is how older releases spell it
MSP_TARGETS = {"valence": "EmoVal", "arousal": "EmoAct", "dominance": "EmoDom"}
MSP_NAMES = MSP_TARGETS | {"file": "FileName", "speaker": "SpkrID", "split": "Split_Set", "gender": "Gender"}
MSP_SPLITS = {
    "Train": "train",
    "Development": "validation",
    "Validation": "validation",
    "Test1": "test1",
    "Test2": "test2",
    "Test3": "test3",
}
_AUDIO = {"csv": "audio", "msp_podcast": "Audios", "audformat": ""}  # the layouts' own folders
_TIMES = ("start", "end")

# A row: its place in the sheet, file, start, end, speaker, split, a label for each target, a value for each group.
Cells = tuple[int | str, str, str, str, str, str, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Layout:
    """A corpus' sheet, and how to read it."""

    sheet: Path
    sources: list[Path]  # all files that say what the corpus is
    audio: str  # the folder of the audio files
    names: dict[str, str]  # what the columns are called: file, speaker, each target and group
    split: str | None  # the column of the splits; None where `corpus.speaker_splits` says them
    times: dict[str, str]  # the columns of start and end, which a sheet need not have ...
    parted: bool  # ... unless the config names them
    splits: dict[str, str]  # value in the sheet -> split
    targets: list[str]
    groups: list[str]
    tables: dict | list | str | None  # of a database in audformat

    def read(self) -> Iterator[Cells]:
        """The rows of the sheet; a DataError where it is none."""
        targets, groups = ([self.names[key] for key in keys] for keys in (self.targets, self.groups))
        if self.tables is not None:
            return Database(self.sheet).read_rows(self.tables, self.names["speaker"], self.split, targets, groups)
        wanted = [self.names["file"], self.names["speaker"], *([self.split] if self.split else []), *targets, *groups]
        wanted, optional = [*wanted, *(self.times.values() if self.parted else [])], self.times.values()
        cells = read_columns(self.sheet, wanted, "corpus.folder and corpus.sheet", optional)
        return zip(
            cells.lines,
            cells.take(self.names["file"]),
            *(cells.take(self.times.get(time)) for time in _TIMES),
            cells.take(self.names["speaker"]),
            cells.take(self.split),
            zip(*map(cells.take, targets), strict=True),
            zip(*map(cells.take, groups), strict=True) if groups else itertools.repeat(()),
            strict=False,  # for what has no end
        )


def find_layout(settings: dict) -> Layout:
    """The layout of a corpus (the `corpus` section of the config, defaults filled in)."""
    kind, folder, given = settings["layout"], Path(settings["folder"]), settings["columns"]
    targets, groups = settings["targets"], settings["groups"]
    known = MSP_NAMES if kind == "msp_podcast" else {}
    names = {key: given.get(key, known.get(key, key)) for key in ("file", "speaker", "split", *targets, *groups)}
    _check_columns(kind, given, names)
    if kind == "msp_podcast" and (strange := [t for t in targets if t not in MSP_TARGETS and t not in given]):
        raise DataError(
            f"corpus.targets: {strange[0]!r} is not in layout msp_podcast; it has {', '.join(MSP_TARGETS)} "
            "(of another, give the column in corpus.columns)"
        )
    times = {time: given[time] for time in _TIMES if time in given}
    parted = bool(times)
    if kind == "csv" and not parted:
        times = {time: time for time in _TIMES}
    splits = {name: name for name in ("train", "validation", *settings["test_splits"])}
    own, tables = settings["speaker_splits"], settings["tables"] if kind == "audformat" else None
    if kind == "msp_podcast" and not own:
        splits = MSP_SPLITS
    elif kind == "audformat" and not own:
        splits = {name: name for name in tables} if isinstance(tables, dict) else splits | {"dev": "validation"}
    sheet = _find_sheet(settings, folder)
    tables_of = sheet.parent.glob(f"{glob.escape(sheet.stem)}.*") if kind == "audformat" else ()
    sources = [sheet, *sorted(path for path in tables_of if path.suffix in (".csv", ".parquet", ".pkl"))]
    return Layout(
        sheet,
        [*sources, *([Path(own)] if own else [])],
        posixpath.join(settings["folder"], settings["audio"] or _AUDIO[kind]),
        names,
        None if own else names["split"],
        times,
        parted,
        splits,
        targets,
        groups,
        tables,
    )


def _check_columns(kind: str, given: dict[str, str], names: dict[str, str]) -> None:
    """Stop at a key of `corpus.columns` that names no column of the layout."""
    keys = [*names, *_TIMES] if kind != "audformat" else [key for key in names if key != "file"]
    for key in given:
        if key not in keys:
            close = difflib.get_close_matches(key, keys, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(keys)}"
            raise DataError(f"config: corpus.columns: {key!r} is no column of layout {kind}; {hint}")


def _find_sheet(settings: dict, folder: Path) -> Path:
    if settings["sheet"]:
        return folder / settings["sheet"]
    if settings["layout"] != "msp_podcast":
        return folder / {"csv": "labels.csv", "audformat": "db.yaml"}[settings["layout"]]
    for name in MSP_SHEETS:
        if (folder / "Labels" / name).is_file():
            return folder / "Labels" / name
    raise DataError(f"{folder / 'Labels'}: holds neither {' nor '.join(MSP_SHEETS)}; name the sheet in corpus.sheet")
