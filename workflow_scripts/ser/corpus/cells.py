"""The cells of a sheet in CSV, and what is wrong with them, listed."""

import csv
from pathlib import Path

from ser.files import DataError, check_regular

_SHOWN = 10  # problems named before the rest is only counted


def raise_problems(problems: list[str]) -> None:
    """Raise a DataError that lists the problems, if there are any."""
    if problems:
        more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise DataError("\n".join([*problems[:_SHOWN], *more]))


def read_columns(sheet: Path, wanted: list[str], keys: str):
    """Yield `(line, cells)` of each row of a CSV sheet: the wanted columns' cells, without white space around them.

    Raises DataError for what is no such sheet; `keys` are those of the config that name it.
    """
    line = 0
    check_regular(sheet)
    try:
        with open(sheet, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            if not head.strip():
                raise DataError(
                    f"{sheet}: is empty, or its first line is; expected a header with {wanted[0]}, {wanted[1]}, ..."
                )
            separator = max(",;\t", key=head.count)
            header = [name.strip() for name in next(csv.reader([head], delimiter=separator))]
            for name in wanted:
                if header.count(name) != 1:
                    found = f"the header has {', '.join(map(repr, header))}"
                    what = "missing" if name not in header else "there more than once"
                    raise DataError(f"{sheet}: column {name!r} is {what}; {found}")
            places = [header.index(name) for name in wanted]
            rows, line = csv.reader(file, delimiter=separator, strict=True), 1
            for row in rows:
                line = rows.line_num + 1
                if not row or not any(row):
                    continue
                if len(row) != len(header):
                    raise DataError(f"{sheet}, row {line}: has {len(row)} cells; the header has {len(header)}")
                yield line, [row[place].strip() for place in places]
    except FileNotFoundError:
        raise DataError(f"{sheet}: there is no such label sheet; set {keys}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{sheet}: is not UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{sheet}, row {line + 1}: cannot be read as CSV ({error})") from error
    except OSError as error:
        raise DataError(f"{sheet}: cannot be read ({error.strerror})") from error
