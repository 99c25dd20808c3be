"""The folder of a training's curves in TensorBoard's format, apart from who writes the curves."""

from pathlib import Path

from ser.files import DataError, is_linked

_FILES = "events.out.tfevents.*"


def clear_curves(folder: str | Path, levels: int) -> None:
    """Remove the curves of an earlier training; a DataError if the folder, or one of `levels` above it, is a link."""
    if is_linked(folder, levels):
        raise DataError(f"{folder}: is a link, or in one, and curves would be written where it leads; delete the link")
    for path in Path(folder).glob(_FILES):
        path.unlink()


def rename_curves(folder: str | Path) -> None:
    """Number the files, in the order in which they were written: as writers name them, they tell the machine's name."""
    for number, path in enumerate(sorted(Path(folder).glob(_FILES))):
        path.rename(path.with_name(_FILES.replace("*", f"{number:03d}")))
