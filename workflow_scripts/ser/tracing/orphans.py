"""Orphans: files under results/ that an earlier config made and the present one does not."""

import re
import time
from collections.abc import Callable, Container, Iterable
from pathlib import Path

from ser.config.finetuning import FOLDER
from ser.config.speaker_vectors import name_model

HEAD = "adaptation.safetensors"  # of an encoder that was trained further on the corpus

_REUSED = re.compile(
    r"\.reuse/(?P<encoder>.+)/(?P<split>[^/]+)/(?P<shard>shard-\d{3})-[0-9a-f]+\.(?P<kind>\w+)\.tfrecord"
)
_ENCODER_DIGESTS = re.compile(r"manifests/encoder-(?P<encoder>.+)-digests\.parquet")
_VECTORS = "speakers/"  # of a reuse folder, where others have the name of an encoder
_MODEL = name_model("")
_CHECKPOINT = re.compile(r"\.checkpoints/(?P<encoder>.+)\.pt")
_CURVES = re.compile(r"logs/tensorboard/(?P<name>[^/]+)/((?P<seed>seed-\d+)/)?events\.out\.tfevents\.[^/]+")
_REPORTS = re.compile(r"(?:logs|benchmarks)/(?P<rule>\w+)(?:/.+)?\.(?:log|tsv)")
_TEMPORARY = re.compile(r"\.(?P<stem>.+)-[a-z0-9_]{8}")  # as files.atomic names them
_ABANDONED_S = 24 * 3600  # a job that is still at work has written to its temporary file since


def find_orphans(
    results: Path, makes: Callable[[str], bool], made: Callable[[str], bool], rules: Container[str]
) -> list[str]:
    """The files in `results` that this workflow made and would not make now, sorted.

    `makes(path)` says whether a job of the present config makes a file, `made(path)` whether a job of this workflow
    once did; logs and benchmarks are known by the names of `rules`. The rest is somebody else's and is never listed.
    """
    orphans = []
    for path in sorted(results.rglob("*")):
        if path.is_file() and not makes(str(path)) and _is_orphan(path, results, makes, made, rules):
            orphans.append(str(path))
    return orphans


def _is_orphan(
    path: Path, results: Path, makes: Callable[[str], bool], made: Callable[[str], bool], rules: Container[str]
) -> bool:
    name = path.relative_to(results).as_posix()
    if match := _REUSED.fullmatch(name):
        kind, name = "frames" if match["kind"] == "frames" else "embeddings", match["encoder"]
        if name.startswith(_VECTORS):
            kind, name = "utterance_vectors", name.removeprefix(_VECTORS)
        return not makes(str(results / kind / name / match["split"] / f"{match['shard']}.tfrecord"))
    if match := _ENCODER_DIGESTS.fullmatch(name):
        name = match["encoder"]
        folder = "speaker_models" if name.startswith(_MODEL) else "encoders"
        return not makes(str(results / folder / name.removeprefix(_MODEL) / "card.json"))
    if match := _CHECKPOINT.fullmatch(name):
        encoder = match["encoder"]
        tuned = encoder.startswith(f"{FOLDER}/")
        return not makes(str(results / (f"{encoder}/card.json" if tuned else f"encoders/{encoder}/{HEAD}")))
    if match := _CURVES.fullmatch(name):
        folder = results / ("models" if match["seed"] else "encoders") / match["name"] / (match["seed"] or "")
        return not makes(str(folder / ("history.csv" if match["seed"] else "training.csv")))
    if match := _TEMPORARY.fullmatch(path.stem):
        final = str(path.with_name(match["stem"] + path.suffix))
        return (makes(final) or made(final)) and time.time() - path.stat().st_mtime > _ABANDONED_S
    if match := _REPORTS.fullmatch(name):
        return match["rule"] in rules
    return made(str(path))


def remove(paths: Iterable[str], results: Path) -> None:
    """Remove files, and the folders in `results` that are empty without them."""
    for path in map(Path, paths):
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == results or any(folder.iterdir()):
                break
            folder.rmdir()
