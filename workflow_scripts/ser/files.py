"""Files that appear whole or not at all, and readers that name the file they cannot read."""

import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ser.text import clean


class DataError(Exception):
    """Input that cannot be used; the message names the file, row or key and says what was expected.

    It may quote what others wrote, and is shown in terminals.
    """

    def __init__(self, message: str):
        super().__init__(clean(message))


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that becomes `path` when the block ends without an error.

    The data is on the disk before the name is: a crash leaves the old file or the new one. The name keeps
    `path`'s suffix, because some writers look at it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:100]}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def name_path(path: str) -> str:
    """A path as results that are passed on have it: not absolute, which would tell users' and projects' names.

    What lies in the working folder is relative to it; of what lies elsewhere the last part alone is left.
    """
    if not os.path.isabs(path):
        return path
    relative = os.path.relpath(path)
    return relative if relative.split(os.sep)[0] != os.pardir else f".../{Path(path).name}"


def check_regular(path: str | Path) -> None:
    """Raise DataError for what is there and no file: a pipe or a device can be read for ever. Links are followed."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is a folder, a device or a pipe; expected a file")


def is_linked(path: str | Path, levels: int) -> bool:
    """Whether a path, or one of so many folders above it, is a link: what is behind it may be somebody else's."""
    path = Path(path)
    return any(part.is_symlink() for part in (path, *list(path.parents)[:levels]))


def sha256(path: str | Path) -> str:
    """The hex SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digests(paths: Iterable[str | Path], digests: dict[str, str], by: str | Path) -> None:
    """Raise DataError for a file that is not as its SHA-256, by its name in `digests`, says; `by` says who says so."""
    for path in map(Path, paths):
        if digests.get(path.name, digest := sha256(path)) != digest:
            raise DataError(f"{path}: is damaged or was edited (not what {by} says); delete it and run again")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value) -> None:
    """Write a value as indented JSON with a checksum, atomically; NaN is an error, not a token others cannot read."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    write_text(path, f"{text}\n{_checksum_line(text)}\n")


def _checksum_line(text: str) -> str:
    """The CRC-32 of a text as 32 spaces (0) and tabs (1): white space is all that JSON lets stand after a value."""
    return f"{zlib.crc32(text.encode()):032b}".translate({ord("0"): " ", ord("1"): "\t"})


def read_json(path: str | Path):
    """Read JSON, with or without a checksum; a DataError names a file that is no JSON or not what was written."""
    check_regular(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested without end
        raise DataError(f"{path}: is not JSON ({error}); delete it and run again") from error
    body, _, last = text.removesuffix("\n").rpartition("\n")
    if len(last) > 8 and last.isspace() and last != _checksum_line(body):
        raise DataError(f"{path}: is damaged (does not match its checksum); delete it and run again")
    return value
