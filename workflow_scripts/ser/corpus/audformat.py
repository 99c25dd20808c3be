"""Databases in audformat (https://audeering.github.io/audformat/): a header in YAML, and tables of files and labels.

The files are read here and not by the package of that name, which takes a pickled table where there is one: a pickle
can run code, and none is opened.
"""

import csv
import difflib
import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import yaml

from ser.corpus.speakers import fold_name, match_names
from ser.files import DataError, check_regular
from ser.formats.parquet import read_parquet
from ser.text import find_fault, shorten

_USAGES = ("commercial", "other", "research", "restricted", "unrestricted")
_ZERO = re.compile(r"(0 days ?)?[0:.]*")  # a time of 0 as pandas writes it
_BLANK = ("", "NaT")
_FLOAT = re.compile(r"-?\d+\.0")

# A row: its place, file, start, end, speaker, split, a label for each target, a value for each group.
Row = tuple[str, str, str, str, str, str, tuple[str, ...], tuple[str, ...]]


class _Texts(yaml.SafeLoader):
    """YAML whose values are text as they stand there: as a number, a speaker 010 would be 8."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_usage(header: Path) -> str:
    """What a database may be used for, in audformat's words; `other` where it does not say so in one of them."""
    usage = Database(header).header.get("usage")
    return usage if usage in _USAGES else "other"


class Database:
    """A header and its tables. Values are text as in CSV, "" where there is none."""

    def __init__(self, header: Path):
        self.path = header
        check_regular(header)
        try:
            self.header = _Texts(header.read_text(encoding="utf-8")).get_single_data()
        except FileNotFoundError:
            raise DataError(f"{header}: there is no such header; set corpus.folder and corpus.sheet") from None
        except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{header}: is no YAML ({error})") from error
        if not isinstance(self.header, dict) or not isinstance(self.header.get("tables"), dict):
            raise DataError(f"{header}: names no tables; expected the header of an audformat database")
        self.tables = self.header["tables"]
        for name, options in self.tables.items():
            columns = (options.get("columns") or {}) if isinstance(options, dict) else None
            if not isinstance(columns, dict) or not isinstance(name, str) or find_fault(name) or "/" in name:
                raise DataError(f"{header}: {shorten(str(name))} is no table of an audformat database")
            self.tables[name] = options | {"columns": columns}
        self.schemes = self.header.get("schemes") or {}
        if not isinstance(self.schemes, dict) or not all(isinstance(each, dict) for each in self.schemes.values()):
            raise DataError(f"{header}: its schemes are none of an audformat database")

    def read_rows(
        self, tables: dict | list | str, speaker: str, split: str | None, targets: Iterable[str], groups: Iterable[str]
    ) -> Iterator[Row]:
        """The rows of the tables with the labels, each with its place.

        Args:
            tables: the table, or the tables, of each split; or those of all, and `split` is a column, or None where no
                split is wanted. Rows are those of the first, the others add columns
            speaker, split, targets, groups: names of columns, of these tables or of others of the same files; `split`
                and `groups` may also be what the speakers' scheme says of each speaker
        """
        named = tables if isinstance(tables, dict) else {None: tables}
        named = {name: [each] if isinstance(each, str) else each for name, each in named.items()}
        if not all(map(all, named.values())):
            raise DataError(
                f"corpus.tables: expected the tables with the labels; {self.path} has {self._list_tables()}"
            )
        for name, chosen in named.items():
            self._check_tables(chosen)
            table = chosen[0]
            labels = [self.find_column(chosen, column) for column in targets]
            speakers = _tidy_ids(self.find_column(chosen, speaker))
            known = name or split is None
            splits = [name or ""] * len(speakers) if known else self.find_fact(chosen, split, speaker, speakers)
            facts = [self.find_fact(chosen, column, speaker, speakers) for column in groups]
            yield from zip(
                self._list_places(table),
                *self._list_parts(table),
                speakers,
                splits,
                zip(*labels, strict=True),
                zip(*facts, strict=True) if facts else itertools.repeat(()),
                strict=False,
            )

    def find_file(self, table: str) -> Path:
        """The Parquet or CSV file of a table."""
        for suffix in ("parquet", "csv"):
            path = self.path.with_name(f"{self.path.stem}.{table}.{suffix}")
            if path.is_file():
                return path
        if self.path.with_name(f"{self.path.stem}.{table}.pkl").is_file():
            raise DataError(
                f"{self.path.parent}: table {table!r} is pickled, and pickles can run code: save the database again "
                'with db.save(folder, storage_format="parquet")'
            )
        raise DataError(f"{self.path.parent}: has no {self.path.stem}.{table}.parquet or .csv, which its header names")

    @functools.cache  # noqa: B019 - a database lives as long as the sheet is read
    def read_table(self, table: str) -> dict[str, list[str]]:
        """The columns of a table as text."""
        path = self.find_file(table)
        check_regular(path)
        if path.suffix == ".parquet":
            found = read_parquet(path, own=False)
            return {name: _format(found[name]) for name in found.column_names}
        try:
            with open(path, encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file, strict=True)
            return dict(zip(header, map(list, zip(*rows, strict=True)) if rows else [[] for _ in header], strict=True))
        except (csv.Error, ValueError, OSError) as error:
            raise DataError(f"{path}: cannot be read as CSV ({error})") from error

    def find_column(self, tables: list[str], column: str) -> list[str]:
        """A column for the rows of the first table: from it, from the others, or from any of the same files.

        A row of a table of whole files is also that of each part of a file, and the other way round where all parts of
        a file agree. Raises DataError where two tables say different things of a row.
        """
        if self._has(tables[0], column):
            return self._take(tables[0], column)
        others = [table for table in tables[1:] if self._has(table, column)]
        others = others or [table for table in self.tables if self._has(table, column)]
        if not others:
            raise DataError(f"{self.path}: no table of files has a column {column!r}; set corpus.columns")
        rows, files = {}, defaultdict(dict)
        for other in others:
            for part, value in zip(zip(*self._list_parts(other), strict=True), self._take(other, column), strict=True):
                if value == "":
                    continue
                first = rows.setdefault(part, (value, other))
                if first[0] != value and fold_name(first[0]) != fold_name(value):
                    raise DataError(
                        f"{self.path}: tables {first[1]!r} and {other!r} differ in {column!r} of {shorten(part[0])}; "
                        "list the one that is meant in corpus.tables, as in [emotion, arousal.gold]"
                    )
                files[part[0]][value] = None
        found = []
        for part in zip(*self._list_parts(tables[0]), strict=True):
            value = rows.get(part) or rows.get((part[0], "", ""))
            values = [value[0]] if value else list(files.get(part[0], [""]))
            if len(values) > 1:
                raise DataError(
                    f"{self.path}: no table says which {column!r} {shorten(part[0])} has from {part[1] or '0'} to "
                    f"{part[2] or 'its end'}; parts of it have {', '.join(map(shorten, values[:3]))}"
                )
            found.append(values[0])
        return found

    def find_fact(self, tables: list[str], fact: str, speaker: str, speakers: list[str]) -> list[str]:
        """What is said of each row of a table: a column, or what the scheme of the speakers says of its speaker."""
        if any(self._has(name, fact) for name in self.tables):
            return self.find_column(tables, fact)
        owner = next(name for name in (*tables, *self.tables) if self._has(name, speaker))
        column = self.tables[owner]["columns"][speaker]
        scheme = column.get("scheme_id") if isinstance(column, dict) else None
        labels = self.schemes.get(scheme, {}).get("labels") if isinstance(scheme, str) else None
        if isinstance(labels, str) and not find_fault(labels) and "/" not in labels:  # a table of its own
            described = self.read_table(labels)
            if fact in described:
                return _look_up(dict(zip(next(iter(described.values())), described[fact], strict=True)), speakers)
        elif isinstance(labels, dict):
            known = {str(name): values for name, values in labels.items() if isinstance(values, dict)}
            if any(fact in values for values in known.values()):
                said = {name: values.get(fact) for name, values in known.items()}
                return _look_up({name: "" if value is None else str(value) for name, value in said.items()}, speakers)
        raise DataError(
            f"{self.path}: neither a table of files nor the scheme of {speaker!r} has a column {fact!r}; set "
            "corpus.columns (of splits, corpus.tables can also name a table for each)"
        )

    def _has(self, table: str, column: str) -> bool:
        return column in self.tables[table].get("columns", {})

    def _check_tables(self, chosen: list[str]) -> None:
        for table in chosen:
            if table not in self.tables:
                close = difflib.get_close_matches(table, self.tables, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has {self._list_tables()}"
                raise DataError(f"corpus.tables: {self.path} has no table {table!r}; {hint}")
        rows = set(zip(*self._list_parts(chosen[0]), strict=True))
        for table in chosen[1:]:
            if more := [part for part in zip(*self._list_parts(table), strict=True) if part not in rows]:
                raise DataError(
                    f"{self.find_file(table)}: {len(more)} of its rows are not in table {chosen[0]!r}, as "
                    f"{shorten(more[0][0])}; tables of one split have the same rows"
                )

    def _take(self, table: str, column: str) -> list[str]:
        columns = self.read_table(table)
        for name in ("file", column):
            if name not in columns:
                found = ", ".join(map(repr, columns))
                raise DataError(f"{self.find_file(table)}: column {name!r} is missing; it has {found}")
        return columns[column]

    def _list_places(self, table: str) -> Iterator[str]:
        path = self.find_file(table)
        first = 2 if path.suffix == ".csv" else 1  # a CSV file has a header
        return (f"{number} of {path.name}" for number in itertools.count(first))

    @functools.cache  # noqa: B019
    def _list_parts(self, table: str) -> tuple[list[str], list[str], list[str]]:
        """File, start and end of each row; both times are "" where it is a whole file."""
        columns = self.read_table(table)
        files = self._take(table, "file")
        if "start" not in columns or "end" not in columns:
            blank = [""] * len(files)
            return files, blank, blank
        parts = [
            ("", "") if end in _BLANK and _ZERO.fullmatch(start) else (start, "" if end in _BLANK else end)
            for start, end in zip(columns["start"], columns["end"], strict=True)
        ]
        return files, [start for start, _ in parts], [end for _, end in parts]

    def _list_tables(self) -> str:
        return ", ".join(self.tables) or "none"


def _format(column: pa.ChunkedArray) -> list[str]:
    """A column as text: a number in its shortest form, a time in seconds."""
    if pa.types.is_duration(column.type):
        times = column.cast(pa.duration("ns")).cast(pa.int64()).to_pylist()
        return ["" if value is None else f"{value // 10**9}.{value % 10**9:09d}" for value in times]
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _tidy_ids(names: list[str]) -> list[str]:
    """Ids without the `.0` of numbers that stood in a column with gaps."""
    if all(name == "" or _FLOAT.fullmatch(name) for name in names):
        return [name.removesuffix(".0") for name in names]
    return names


def _look_up(known: dict[str, str], speakers: list[str]) -> list[str]:
    """What is known of each speaker, however the id is spelled."""
    matched = match_names(speakers, known)
    return [known[matched[name]] if name in matched else "" for name in speakers]
