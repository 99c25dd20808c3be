"""Parquet files that are whole: written atomically, with checksums, and checked when they are read."""

import base64
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ser.files import DataError, atomic


def write_parquet(path: str | Path, table: pa.Table) -> None:
    """Write an Arrow table as Parquet with checksums, atomically."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_parquet(path: str | Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file and check its pages' checksums and its columns; a DataError names a damaged one."""
    try:
        _check_schema(pq.read_metadata(path))
        return pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DataError(f"{path}: is damaged ({error}); delete it and run again") from error


def _check_schema(metadata: pq.FileMetaData) -> None:
    """Raise ValueError unless columns have the names and types they were written with: a footer has no checksum."""
    if copy := (metadata.metadata or {}).get(b"ARROW:schema"):  # Arrow's own copy of the schema, in base 64
        written = pa.ipc.read_schema(pa.BufferReader(base64.b64decode(copy)))
        same = io.BytesIO()
        pq.write_table(written.empty_table(), same, version=metadata.format_version)
        if metadata.schema.to_arrow_schema() != pq.ParquetFile(same).schema.to_arrow_schema():
            raise ValueError("its columns are not those it was written with")
