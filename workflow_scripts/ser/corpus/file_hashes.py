"""Content hashes of many files, remembered between runs so that an unchanged file costs one `stat`."""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from ser.files import DataError
from ser.formats.parquet import read_parquet, write_parquet

_SCHEMA = pa.schema(
    [("path", pa.string()), *((name, pa.int64()) for name in ("size", "mtime_ns", "ctime_ns")), ("sha256", pa.string())]
)
# A file written in the same clock tick as it was hashed could change unseen: too young a hash is not remembered.
_SETTLED_NS = 50_000_000
_CHUNK = 64  # files a task: a task of its own for each of 265,000 files would cost more than a small file's hash


def find_files(paths: Iterable[str]) -> dict[str, os.stat_result]:
    """What the file system says of each path; one that does not exist is left out."""
    found = {}
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            found[path] = os.stat(path)
    return found


def hash_files(
    files: Iterable[str] | dict[str, os.stat_result], cache: Path, label: str, writable: bool = True
) -> dict[str, str]:
    """SHA-256 of each file's content: `{path: hex digest}`, "" where a path is no readable regular file.

    A path that does not exist is left out. Digests are kept in `cache` and reused while size, modification and change
    time stay as they are. What must be read is read by as many threads as there are processors, with a progress bar
    if it takes longer than a second. `writable` says whether `cache` may be written.
    """
    known = _load(cache)
    fresh: dict[str, tuple[int, int, int, str]] = {}
    stale: list[tuple[str, int, int, int]] = []
    for path, status in (files if isinstance(files, dict) else find_files(files)).items():
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        entry = known.get(path)
        if entry is not None and entry[:3] == stamp:
            fresh[path] = entry
        elif stat.S_ISREG(status.st_mode):
            stale.append((path, *stamp))
        else:
            fresh[path] = (*stamp, "")
    if stale:
        settled = time.time_ns() - _SETTLED_NS
        for path, *stamp, digest in _hash_all(stale, label):
            fresh[path] = (*stamp, digest)
        remembered = {path: entry for path, entry in fresh.items() if entry[3] and entry[2] < settled}
        if writable:
            _save(cache, remembered)
    elif writable and len(fresh) != len(known):
        _save(cache, {path: entry for path, entry in fresh.items() if entry[3]})
    return {path: entry[3] for path, entry in fresh.items()}


def are_as_remembered(cache: Path, count: int) -> bool:
    """Whether a cache remembers so many files, and all of them are as they were: none would be read again."""
    columns = _read(cache)
    if columns is None or len(columns) != count:
        return False
    try:
        for path, *stamp in zip(*(columns[name].to_pylist() for name in _SCHEMA.names[:4]), strict=True):
            status = os.stat(path)
            if [status.st_size, status.st_mtime_ns, status.st_ctime_ns] != stamp:
                return False
    except (OSError, ValueError):
        return False
    return True


def _hash_all(files: list[tuple[str, int, int, int]], label: str):
    def hash_chunk(chunk):
        return [(*file, _hash_one(file[0])) for file in chunk]

    total = sum(size for _, size, _, _ in files)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=total, desc=f"hashing {label}", unit="B", unit_scale=True, unit_divisor=1024, delay=1) as bar,
    ):
        tasks = [pool.submit(hash_chunk, files[i : i + _CHUNK]) for i in range(0, len(files), _CHUNK)]
        for task in as_completed(tasks):
            rows = task.result()
            bar.update(sum(row[1] for row in rows))
            yield from rows


def _hash_one(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _load(cache: Path) -> dict[str, tuple[int, int, int, str]]:
    columns = _read(cache)
    if columns is None:
        return {}
    path, *rest = (column.to_pylist() for column in columns.columns)
    return dict(zip(path, zip(*rest, strict=True), strict=True))


def _read(cache: Path) -> pa.Table | None:
    try:
        return read_parquet(cache).select(_SCHEMA.names)
    except (FileNotFoundError, DataError, KeyError):
        return None


def _save(cache: Path, entries: dict[str, tuple[int, int, int, str]]) -> None:
    rows = sorted(entries.items())
    columns = [[path for path, _ in rows], *([entry[i] for _, entry in rows] for i in range(4))]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
    write_parquet(cache, pa.Table.from_arrays(arrays, schema=_SCHEMA))
