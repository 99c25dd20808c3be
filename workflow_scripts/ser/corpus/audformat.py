"""Databases in audformat (https://audeering.github.io/audformat/): a header in YAML, and tables of files and labels.

The files are read here and not by the package of that name, which takes a pickled table where there is one: a pickle
can run code, and none is opened.
"""

import csv
import difflib
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import yaml

from ser.files import DataError, check_regular
from ser.formats.parquet import read_parquet
from ser.text import find_fault, shorten

_ZERO = re.compile(r"(0 days ?)?[0:.]*")  # a time of 0 as pandas writes it

Row = tuple[str, tuple[str, str, str, list[str], list[str]]]  # place, (file, speaker, split, labels, groups)


class Database:
    """A header and its tables. Values are text as in CSV, "" where there is none."""

    def __init__(self, header: Path):
        self.path = header
        check_regular(header)
        try:
            self.header = yaml.safe_load(header.read_text(encoding="utf-8"))
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
        self,
        tables: dict[str, str] | str,
        speaker: str,
        split: str | None,
        targets: Iterable[str],
        groups: Iterable[str],
    ) -> Iterator[Row]:
        """The rows of the tables with the labels, each with its place.

        Args:
            tables: the table of each split; or one table, and `split` is a column, or None where no split is wanted
            speaker, split, targets, groups: names of columns. All but `targets` may be in another table of the same
                files; `split` and `groups` may also be what the speakers' scheme says of each speaker
        """
        named = tables if isinstance(tables, dict) else {None: tables}
        if not all(named.values()):
            raise DataError(
                f"corpus.tables: expected the tables with the labels; {self.path} has {self._list_tables()}"
            )
        for name, table in named.items():
            if table not in self.tables:
                close = difflib.get_close_matches(table, self.tables, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has {self._list_tables()}"
                raise DataError(f"corpus.tables: {self.path} has no table {table!r}; {hint}")
            self._check_whole(table)
            labels = [self._take(table, column) for column in targets]
            speakers = self.find_column(table, speaker)
            known = name or split is None
            splits = [name or ""] * len(speakers) if known else self.find_fact(table, split, speaker, speakers)
            facts = [self.find_fact(table, column, speaker, speakers) for column in groups]
            rows = zip(self._take(table, "file"), speakers, splits, *labels, *facts, strict=True)
            for place, (file, speaker_id, split_name, *cells) in zip(self._list_places(table), rows, strict=False):
                yield place, (file, speaker_id, split_name, cells[: len(labels)], cells[len(labels) :])

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
            found = read_parquet(path)
            return {name: _format(found[name]) for name in found.column_names}
        try:
            with open(path, encoding="utf-8", newline="") as file:
                header, *rows = csv.reader(file, strict=True)
            return dict(zip(header, map(list, zip(*rows, strict=True)) if rows else [[] for _ in header], strict=True))
        except (csv.Error, ValueError, OSError) as error:
            raise DataError(f"{path}: cannot be read as CSV ({error})") from error

    def find_column(self, table: str, column: str) -> list[str]:
        """A column for the files of a table, from the table itself or from those of the others that have it."""
        if column in self.tables[table].get("columns", {}):
            return self._take(table, column)
        known: dict[str, str] = {}
        for other in self._tables_with(column):
            pairs = zip(self.read_table(other)["file"], self._take(other, column), strict=True)
            known |= {file: value for file, value in pairs if file not in known}
        if not known:
            raise DataError(f"{self.path}: no table of files has a column {column!r}; set corpus.columns")
        return [known.get(file, "") for file in self.read_table(table)["file"]]

    def find_fact(self, table: str, fact: str, speaker: str, speakers: list[str]) -> list[str]:
        """What is said of each file of a table: a column, or what the scheme of the speakers says of its speaker."""
        if any(fact in options.get("columns", {}) for options in self.tables.values()):
            return self.find_column(table, fact)
        owner = next(name for name in (table, *self._tables_with(speaker)) if speaker in self.tables[name]["columns"])
        column = self.tables[owner]["columns"][speaker]
        scheme = column.get("scheme_id") if isinstance(column, dict) else None
        labels = self.schemes.get(scheme, {}).get("labels") if isinstance(scheme, str) else None
        if isinstance(labels, str) and not find_fault(labels) and "/" not in labels:  # a table of its own
            described = self.read_table(labels)
            if fact in described:
                by_speaker = dict(zip(next(iter(described.values())), described[fact], strict=True))
                return [by_speaker.get(name, "") for name in speakers]
        elif isinstance(labels, dict):
            known = {str(name): values for name, values in labels.items() if isinstance(values, dict)}
            if any(fact in values for values in known.values()):
                said = [known.get(name, {}).get(fact) for name in speakers]
                return ["" if value is None else str(value) for value in said]
        raise DataError(
            f"{self.path}: neither a table of files nor the scheme of {speaker!r} has a column {fact!r}; set "
            "corpus.columns (of splits, corpus.tables can also name a table for each)"
        )

    def _tables_with(self, column: str) -> list[str]:
        return [name for name, options in self.tables.items() if column in options.get("columns", {})]

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

    def _check_whole(self, table: str) -> None:
        """Stop at a row that is a part of a file."""
        columns = self.read_table(table)
        parts = zip(columns.get("start", []), columns.get("end", []), strict=True)
        for place, (start, end) in zip(self._list_places(table), parts, strict=False):
            if not _ZERO.fullmatch(start) or end:
                raise DataError(
                    f"{self.path.parent}: row {place} is a part of a file, from {start} to {end or 'its end'}; "
                    "expected whole files: write each part to a file of its own"
                )

    def _list_tables(self) -> str:
        return ", ".join(self.tables) or "none"


def _format(column: pa.ChunkedArray) -> list[str]:
    """A column as text: a number in its shortest form, a time in nanoseconds."""
    if pa.types.is_duration(column.type):
        column = column.cast(pa.int64())
    return ["" if value is None else str(value) for value in column.to_pylist()]
