"""A head's file before Keras reads it: no more is unpacked or built of it than such a file holds."""

import json
import zipfile
from pathlib import Path

from ser.files import check_regular

_PARTS = {"config.json", "metadata.json", "model.weights.h5"}
_LARGEST = 1 << 16  # the most that the config lets a layer be wide, or a head have inputs
_MOST_CONFIG = 10_000_000  # bytes


def check_model_file(path: str | Path) -> None:
    """Raise ValueError for a file that would take more memory than its size says: packed parts, or huge layers.

    Heads are saved as they are (`training.save_model`): a packed part, or a packed array in one, is somebody else's.
    """
    import h5py  # Keras' own

    def check_array(name: str, item) -> None:
        if isinstance(item, h5py.Dataset) and (item.chunks or item.external or item.is_virtual):
            raise ValueError(f"its array {name} is packed, or elsewhere")

    check_regular(path)
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if {part.filename for part in parts} != _PARTS or len(parts) != len(_PARTS):
            raise ValueError(f"it has other parts than {', '.join(sorted(_PARTS))}")
        if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size for part in parts):
            raise ValueError("its parts are packed")
        if archive.getinfo("config.json").file_size > _MOST_CONFIG:
            raise ValueError("its config is too large")
        _check_sizes(json.loads(archive.read("config.json")))
        with archive.open("model.weights.h5") as part, h5py.File(part, "r") as weights:
            weights.visititems(check_array)


def _check_sizes(value) -> None:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_sizes(item)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"its config has a size of {value:.3g}")
