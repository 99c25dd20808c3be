"""One way to log: a job's own words, warnings, progress bars and errors go to its log file."""

import logging
import os
import sys

from ser.files import DataError
from ser.lean_arrow import hide_pandas


def to_file(path: str) -> None:
    """Send logging, standard output and standard error of this process to `path` (one log a job).

    Each job starts with this.
    """
    hide_pandas()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    sys.excepthook = _say


def _say(kind: type[BaseException], error: BaseException, traceback) -> None:
    """An error in the user's data is its message; any other has a traceback."""
    if issubclass(kind, DataError):
        print(f"Error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)
