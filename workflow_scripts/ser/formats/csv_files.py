"""CSV as this project reads and writes it: a header, Unix line ends, an empty cell for what is not there."""

import csv
import io
import re
from collections.abc import Collection, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from ser.files import DataError, write_text

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The rows of a file as text, by the names in its header."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is no table of this workflow, or is damaged ({error})") from error
    if any(None in row or None in row.values() for row in rows):
        raise DataError(f"{path}: is no table of this workflow, or is damaged (a row has another number of cells)")
    return rows


def read_table(path: str | Path, texts: Collection[str]) -> list[dict]:
    """The rows of a table: columns of `texts` as text, all others as numbers, of which an empty cell is None."""
    with open(path, encoding="utf-8", errors="replace") as file:
        columns = file.readline().strip().split(",")
    types = {name: pa.string() if name in texts else pa.float64() for name in columns}
    options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    try:
        table = pyarrow.csv.read_csv(path, parse_options=parsing, convert_options=options)
        if table.column_names != columns:
            raise ValueError("its header is none of this workflow")
        rows = table.to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: is no table of this workflow, or is damaged ({error})") from error
    for name in columns:
        for row in rows if name in texts else ():
            row[name] = unguard(row[name])
    return rows


def guard(text: str) -> str:
    """A text that a spreadsheet would take for a formula, behind an apostrophe; a number is none."""
    if not _FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def unguard(text: str) -> str:
    """The text that `guard` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def format_rows(header: Iterable[str], rows: Iterable[Iterable]) -> str:
    """Rows as CSV text with a header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def write_csv(path: str | Path, columns: list[str], rows: Iterable[dict]) -> None:
    """Write a table for people, atomically: floats with 6 decimals, an empty cell for what a row lacks, no formulas.

    Keys of a row that are no column are ignored.
    """
    cells = ([format_cell(row.get(column)) for column in columns] for row in rows)
    write_text(path, format_rows(columns, cells))


def format_cell(value) -> str:
    """A cell's text; a number that is not finite is an error of the program, never a cell."""
    if value is None:
        return ""
    if isinstance(value, str | int):
        return guard(str(value))
    if not abs(value) < float("inf"):
        raise ValueError(f"a table's cell is {value}")
    return f"{round(float(value), 6) + 0.0:.6f}"  # + 0.0: no -0.000000


def join_values(values: Iterable[float | None]) -> str:
    """One value if the seeds agree, else all of them in the seeds' order; empty where there is none."""
    texts = ["" if value is None else f"{value:g}" for value in values]
    return ";".join(texts) if len(set(texts)) > 1 else "".join(texts[:1])
