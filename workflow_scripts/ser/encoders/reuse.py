"""Records of the last run that the next one may take over: hard links in a folder of their own."""

import contextlib
import heapq
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ser.files import DataError, atomic, is_linked
from ser.formats.manifest import Utterance
from ser.formats.tfrecord import Record, read, writer

log = logging.getLogger(__name__)

_KEPT = re.compile(r"shard-\d{3}-[0-9a-f]{20}\.(pooled|frames)\.tfrecord")
_LEVELS = 2  # folders above it that are the workflow's own: {encoder} and .reuse

Records = dict[str, Record]  # an utterance's record of each kind: "pooled" and, where frames are made, "frames"


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


def write_records(
    outputs: dict[str, Path], stash: dict[str, Path], utterances: list[Utterance], reusable: set[str], new: Iterator
) -> int:
    """Write a file of each kind from the records that are `reusable` and the `new` ones; how many of these there were.

    Both are in order of id, as manifests are: merged, they need the memory of one utterance's records each. Speakers
    are the manifest's. The finished files are kept in the stash.
    """
    speakers, written = {utterance.utterance_id: utterance.speaker_id for utterance in utterances}, 0
    with contextlib.ExitStack() as stack:
        put = {kind: stack.enter_context(writer(path)) for kind, path in outputs.items()}
        for records in heapq.merge(_read_kept(stash, reusable), new, key=lambda each: each["pooled"].utterance_id):
            utterance_id = records["pooled"].utterance_id
            written += utterance_id not in reusable
            for kind, record in records.items():
                put[kind](replace(record, speaker_id=speakers[utterance_id]))
    for kind, path in stash.items():
        keep(outputs[kind], path)
    return written


def _read_kept(stash: dict[str, Path], reusable: set[str]) -> Iterator[Records]:
    if not reusable:
        return
    files = [(record for record in read(path) if record.utterance_id in reusable) for path in stash.values()]
    for records in zip(*files, strict=True):
        yield dict(zip(stash, records, strict=True))


def keep(path: Path, link: Path) -> None:
    """Hard-link a finished file as `link`; where the file system has no hard links between the two, copy it."""
    link.parent.mkdir(parents=True, exist_ok=True)
    with atomic(link) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
