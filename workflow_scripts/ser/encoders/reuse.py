"""Records of the last run that the next one may take over: hard links in a folder of their own."""

import logging
import re
from pathlib import Path

from ser.files import is_linked

log = logging.getLogger(__name__)

_KEPT = re.compile(r"shard-\d{3}-[0-9a-f]{20}\.(pooled|frames)\.tfrecord")
_LEVELS = 2  # folders above it that are the workflow's own: {encoder} and .reuse


def forget(folder: str | Path, shard: str, kept: set[Path] | None = None) -> None:
    """Remove what a reuse folder holds of a shard, but for the files `kept`; nothing where a link leads to it."""
    if not find_folder(folder):
        return
    for path in Path(folder).glob(f"{shard}-*.tfrecord"):
        if _KEPT.fullmatch(path.name) and path not in (kept or ()):
            path.unlink()


def find_folder(folder: str | Path | None) -> Path | None:
    """The folder as a path; None where there is none, or where it, or one above it, is a link."""
    if folder and is_linked(folder, _LEVELS):
        log.warning("%s is a link, or in one: nothing is kept there or taken from there", folder)
        return None
    return Path(folder) if folder else None
