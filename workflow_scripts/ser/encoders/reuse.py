"""Records of the last run that the next one may take over: hard links in a folder of their own."""

import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ser.files import DataError, atomic, is_linked
from ser.formats.manifest import Utterance
from ser.formats.tfrecord import read

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


def find_reusable(stash: Iterable[Path], utterances: list[Utterance]) -> set[str]:
    """Ids of the utterances that every file of the stash holds, whole, with the audio's present content."""
    contents = {utterance.utterance_id: utterance.sha256 for utterance in utterances}
    found = []
    for path in stash:
        try:
            found.append({r.utterance_id for r in read(path) if contents.get(r.utterance_id) == r.sha256})
        except FileNotFoundError:
            return set()
        except DataError as error:
            log.warning("nothing is reused: %s", error)
            return set()
    return set.intersection(*found) if found else set()


def keep(path: Path, link: Path) -> None:
    """Hard-link a finished file as `link`; where the file system has no hard links between the two, copy it."""
    link.parent.mkdir(parents=True, exist_ok=True)
    with atomic(link) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
