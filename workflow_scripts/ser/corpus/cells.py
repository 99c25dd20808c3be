"""The cells of a sheet in CSV, column by column, and what is wrong with them, listed."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ser.files import DataError, check_regular

SHOWN = 10  # problems named before the rest is only counted


@dataclass(frozen=True)
class Cells:
    """Columns of a sheet: text without white space around it, one for each row that is not blank."""

    lines: list[int]  # where each row ends, the header being line 1
    columns: dict[str, list[str]]

    def __iter__(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        return zip(self.lines, zip(*self.columns.values(), strict=True), strict=True)

    def take(self, name: str | None) -> list[str]:
        """A column; blank cells where the sheet does not have it."""
        return self.columns[name] if name in self.columns else [""] * len(self.lines)


def raise_problems(problems: list[str]) -> None:
    """Raise a DataError that lists the problems, if there are any."""
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError("\n".join([*problems[:SHOWN], *more]))


def read_columns(sheet: Path, wanted: Iterable[str], keys: str, optional: Iterable[str] = ()) -> Cells:
    """Read the wanted columns of a CSV sheet, and those of the optional ones that it has.

    Raises DataError for what is no such sheet; `keys` are those of the config that name it.
    """
    wanted = list(dict.fromkeys(wanted))
    check_regular(sheet)
    try:
        text = sheet.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{sheet}: there is no such label sheet; set {keys}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{sheet}: is not UTF-8 ({error}); save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{sheet}: cannot be read ({error.strerror})") from error
    source = io.StringIO(text, newline="")
    head = source.readline()
    if not head.strip():
        raise DataError(
            f"{sheet}: is empty, or its first line is; expected a header with {wanted[0]}, {wanted[1]}, ..."
        )
    separator = max(",;\t", key=head.count)
    line, rows = 0, []
    try:
        header = [name.strip() for name in next(csv.reader([head], delimiter=separator))]
        reader, line = csv.reader(source, delimiter=separator, strict=True), 1
        for row in reader:
            line = reader.line_num + 1
            rows.append((line, row))
    except csv.Error as error:
        raise DataError(f"{sheet}, row {line + 1}: cannot be read as CSV ({error})") from error
    places = _find_places(sheet, header, wanted, optional)
    if line > len(rows) + 1:
        _find_swallowed(sheet, text, rows, separator, len(header))
    rows = [(line, row) for line, row in rows if any(row)]
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(f"{sheet}, row {line}: has {len(row)} cells; the header has {len(header)}")
    columns = {name: [row[place].strip() for _, row in rows] for name, place in places.items()}
    return Cells([line for line, _ in rows], columns)


def _find_places(sheet: Path, header: list[str], wanted: Iterable[str], optional: Iterable[str]) -> dict[str, int]:
    places = {}
    for name in (*wanted, *(name for name in optional if name in header)):
        if header.count(name) != 1:
            found = f"the header has {', '.join(map(repr, header))}"
            what = "missing" if name not in header else "there more than once"
            raise DataError(f"{sheet}: column {name!r} is {what}; {found}")
        places[name] = header.index(name)
    return places


def _find_swallowed(sheet: Path, text: str, rows: list[tuple[int, list[str]]], separator: str, cells: int) -> None:
    """Stop where a row of several lines has others inside: a stray quotation mark swallowed them.

    A cell may have line breaks in quotation marks. But where the first line has all cells, and so has a later one by
    itself, that is a row.
    """
    lines = list(io.StringIO(text, newline=""))
    first = 2
    for last, _ in rows:
        for line in lines[first:last] if lines[first - 1].count(separator) >= cells - 1 else ():
            if len(next(csv.reader([line], delimiter=separator), ())) == cells:
                raise DataError(
                    f"{sheet}, row {first}: a quotation mark opens a cell that ends in row {last}, with whole rows in "
                    "it, which would be lost: take the stray mark out (a mark that belongs to a cell is written twice)"
                )
        first = last + 1
