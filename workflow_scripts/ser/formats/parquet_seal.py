"""A checksum of a whole Parquet file, which the format has for its pages alone.

It stands in 16 bytes between the last page and the footer, where readers do not look: they find the footer from the
file's end, and all else by the footer's offsets. A flipped bit in a footer can take rows, or another column's pages,
without an error.
"""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ser.files import atomic, check_regular

_MARK = b"SERCRC32"
_SEAL = struct.Struct("<8s8s")  # the mark, and the CRC-32 of the file without the seal in hexadecimal digits
_TAIL = struct.Struct("<I4s")  # a Parquet file's end: the length of its footer, and a mark
_BLOCK = 1 << 20


def seal(path: str | Path) -> None:
    """Put the checksum into a Parquet file that was just written."""
    with open(path, "r+b") as file:
        start, end = _find_footer(file)
        file.seek(start)
        footer = file.read(end - start)
        checksum = zlib.crc32(footer, _checksum(file, start))
        file.seek(start)
        file.write(_SEAL.pack(_MARK, b"%08x" % checksum) + footer)


@contextlib.contextmanager
def sealed_writer(path: str | Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of tables; `path` appears, whole and with checksums, when the block ends without an error."""
    with atomic(path) as temporary:
        with pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer:
            yield writer
        seal(temporary)


def check_seal(path: str | Path) -> bool:
    """Whether a file has a seal, which those of other programs have not; ValueError for one that is not as sealed."""
    check_regular(path)
    with open(path, "rb") as file:
        start, end = _find_footer(file)
        place = start - _SEAL.size
        file.seek(max(place, 0))
        if place < 0 or not (found := file.read(_SEAL.size)).startswith(_MARK):
            return False
        footer = file.read(end - start)
        checksum = zlib.crc32(footer, _checksum(file, place))
        if found != _SEAL.pack(_MARK, b"%08x" % checksum):
            raise ValueError("it does not match its checksum")
        return True


def _find_footer(file) -> tuple[int, int]:
    """Where the footer begins, and where the file ends."""
    end = file.seek(0, 2)
    file.seek(max(0, end - _TAIL.size))
    tail = file.read()
    length, mark = _TAIL.unpack(tail) if len(tail) == _TAIL.size else (0, b"")
    start = end - _TAIL.size - length
    if mark != b"PAR1" or start < 4:
        raise ValueError("it does not end as a Parquet file does")
    return start, end


def _checksum(file, stop: int) -> int:
    """The CRC-32 of a file up to a place."""
    checksum = 0
    file.seek(0)
    while stop > 0:
        block = file.read(min(_BLOCK, stop))
        if not block:
            raise ValueError("it ends early")
        checksum, stop = zlib.crc32(block, checksum), stop - len(block)
    return checksum
