"""Arrays in safetensors files with a checksum, which that format does not have."""

import zlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from ser.files import DataError, atomic

_CHECKSUM = "crc32"  # a tensor, as metadata of several keys are written in any order: other bytes each time


def write_tensors(path: str | Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write arrays, atomically, and beside them `crc32`, the CRC-32 of the file without it."""
    checksum = np.array(zlib.crc32(save(tensors, metadata)), np.uint32)
    with atomic(path) as temporary:
        save_file(tensors | {_CHECKSUM: checksum}, temporary, metadata)


def read_tensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a file, checked where it has a checksum; a DataError names a damaged one."""
    try:
        with safe_open(path, "np") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        checksum = tensors.pop(_CHECKSUM, None)
        if checksum is None and any(array.dtype == np.uint32 and not array.shape for array in tensors.values()):
            raise ValueError("its checksum has another name")
        if checksum is not None and checksum != zlib.crc32(save(tensors, metadata)):
            raise ValueError("it does not match its checksum")
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DataError(f"{path}: is damaged, or no safetensors file ({error}); delete it and run again") from error
    return tensors, metadata or {}
