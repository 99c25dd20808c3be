"""CSV as this project reads and writes it: a header, Unix line ends, an empty cell for what is not there."""

import csv
import io
from collections.abc import Collection, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from ser.files import write_text


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The rows of a file as text, by the names in its header."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_table(path: str | Path, texts: Collection[str]) -> list[dict]:
    """The rows of a table: columns of `texts` as text, all others as numbers, of which an empty cell is None."""
    with open(path, encoding="utf-8") as file:
        columns = file.readline().strip().split(",")
    types = {name: pa.string() if name in texts else pa.float64() for name in columns}
    options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False)
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(path, parse_options=parsing, convert_options=options).to_pylist()


def format_rows(header: Iterable[str], rows: Iterable[Iterable]) -> str:
    """Rows as CSV text with a header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def write_csv(path: str | Path, columns: list[str], rows: Iterable[dict]) -> None:
    """Write rows, atomically: floats with 6 decimals, an empty cell for what a row lacks, other keys ignored."""
    cells = ([format_cell(row.get(column)) for column in columns] for row in rows)
    write_text(path, format_rows(columns, cells))


def format_cell(value) -> str:
    """A cell's text; a number that is not finite is an error of the program, never a cell."""
    if value is None:
        return ""
    if isinstance(value, str | int):
        return str(value)
    if not abs(value) < float("inf"):
        raise ValueError(f"a table's cell is {value}")
    return f"{round(float(value), 6) + 0.0:.6f}"  # + 0.0: no -0.000000


def join_values(values: Iterable[float | None]) -> str:
    """One value if the seeds agree, else all of them in the seeds' order; empty where there is none."""
    texts = ["" if value is None else f"{value:g}" for value in values]
    return ";".join(texts) if len(set(texts)) > 1 else "".join(texts[:1])
