"""Parquet files that are whole: written atomically, with checksums, and checked when they are read."""

import base64
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ser.files import DataError, atomic
from ser.formats.parquet_seal import check_seal, seal

MOST_ROWS = 10_000_000  # of a file of other programs; a page of a few bytes can stand for any number


def write_parquet(path: str | Path, table: pa.Table, **options) -> None:
    """Write an Arrow table as Parquet with checksums, atomically; `options` are `pyarrow.parquet.write_table`'s."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True, **options)
        seal(temporary)


def read_parquet(path: str | Path, columns: list[str] | None = None, *, own: bool = True) -> pa.Table:
    """Read a Parquet file, or some columns of it, and check its checksums; a DataError names a damaged one.

    One that is not the workflow's `own` but the user's cannot be made again, and nobody is told to delete it.
    """
    try:
        table = _read(path, columns)
    except _FAULTS as error:
        raise _explain(path, error, own) from error
    missing = [name for name in columns or () if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: has no column {missing[0]!r}; it has {', '.join(table.column_names)}")
    return table if columns is None else table.select(columns)


def read_schema(path: str | Path) -> pa.Schema:
    """The schema of a Parquet file, with its metadata; errors as in `read_parquet`."""
    try:
        check_seal(path)
        return pq.read_schema(path)
    except _FAULTS as error:
        raise _explain(path, error) from error


def _count_bytes(metadata: pq.FileMetaData) -> int:
    """The size of a file's pages when they are unpacked."""
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


# What PyArrow raises for files that are no Parquet, or were damaged.
_FAULTS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError, RuntimeError)


def _explain(path: str | Path, error: Exception, own: bool = True) -> Exception:
    if isinstance(error, FileNotFoundError):
        return error
    if not own:
        return DataError(f"{path}: cannot be read as Parquet ({error})")
    return DataError(f"{path}: is damaged ({error}); delete it and run again")


def _read(path: str | Path, columns: list[str] | None) -> pa.Table:
    sealed = check_seal(path)
    metadata = pq.read_metadata(path)
    if not sealed and max(metadata.num_rows, _count_bytes(metadata) // 1000) > MOST_ROWS:
        raise ValueError(f"it has {metadata.num_rows:,} rows; expected {MOST_ROWS:,} at most, of 1000 bytes each")
    _check_schema(metadata)
    names = pq.read_schema(path).names
    found = None if columns is None else [name for name in names if name in columns]
    table = pq.read_table(path, columns=found, page_checksum_verification=True, partitioning=None)
    if not sealed:
        table.validate(full=True)
    return table


def _check_schema(metadata: pq.FileMetaData) -> None:
    """Raise ValueError unless columns have the names and types they were written with, as far as a file says so."""
    if copy := (metadata.metadata or {}).get(b"ARROW:schema"):  # Arrow's own copy of the schema, in base 64
        written = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(copy)))
        same = io.BytesIO()
        pq.write_table(written.empty_table(), same, version=metadata.format_version)
        if metadata.schema.to_arrow_schema() != pq.ParquetFile(same).schema.to_arrow_schema():
            raise ValueError("its columns are not those it was written with")
