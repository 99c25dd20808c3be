"""The utterances of a shard, each with its vector of a kind that is dear to compute: a speaker model's, or eGeMAPS."""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ser.encoders import reuse
from ser.encoders.decoding import decode_ahead
from ser.encoders.side_by_side import use_one_thread, work_side_by_side
from ser.files import read_json
from ser.formats import manifest as manifests
from ser.formats.manifest import Utterance
from ser.formats.tfrecord import Record
from ser.speakers.egemaps import open_egemaps

log = logging.getLogger(__name__)

DECODE_AHEAD = 4  # utterances


def measure_shard(
    manifest: str | Path,
    path: str | Path,
    *,
    kind: str,
    folder: str | Path | None,
    device: str,
    threads: int,
    audio: dict,
    reuse_dir: str | Path | None,
    fingerprint: str,
) -> None:
    """Write the records of a shard's utterances, `embedding` (1, W) float32, in order of id; rejected audio has none.

    A vector that does not exist (audio too short for the kind, or unvoiced) is NaN, for `averages.average_shard` to
    count. Records of the last run are taken over as in `embed.embed_shard`, where audio, kind, model and `fingerprint`
    are the same.

    Args:
        folder: of the speaker model, in the workflow's form; None where the kind has no model
        threads: that decode audio, and on a CPU utterances computed at a time, each with one thread of arithmetic
    """
    utterances, shard, stash = manifests.read(manifest), Path(manifest).stem, {}
    if reuse_dir := reuse.find_folder(reuse_dir):
        key = _fingerprint(folder, [kind, device, audio, fingerprint])
        stash = {"pooled": reuse_dir / f"{shard}-{key}.pooled.tfrecord"}
    reusable = reuse.find_reusable(stash.values(), utterances)
    todo = [utterance for utterance in utterances if utterance.utterance_id not in reusable]
    log.info("%s: %d utterances to measure, %d reused from the last run", shard, len(todo), len(reusable))
    with contextlib.closing(_measure(todo, kind, folder, device, threads, audio)) as new:
        reuse.write_records({"pooled": Path(path)}, stash, utterances, reusable, new)
    if reuse_dir:
        reuse.forget(reuse_dir, shard, set(stash.values()))


def _measure(
    todo: list[Utterance], kind: str, folder, device: str, threads: int, audio: dict
) -> Iterator[reuse.Records]:
    if not todo:
        return
    if kind == "egemaps":
        extract, prepare, workers = open_egemaps(), None, threads
    else:
        extract, prepare = _open_model(folder, device), use_one_thread
        workers = threads if extract.device == "cpu" else 1
    with contextlib.closing(decode_ahead(todo, audio, DECODE_AHEAD, threads)) as decoded:
        batches = ([item] for item in decoded)
        measured = work_side_by_side(lambda batch: extract(batch[0][1]), batches, workers, prepare)
        for [(utterance, _)], vector in tqdm(measured, total=len(todo), unit="utterance", mininterval=5):
            vector = np.asarray(vector, np.float32)[None]  # (1, W)
            record = Record(utterance.utterance_id, utterance.speaker_id, utterance.sha256, 1, vector)
            yield {"pooled": record}


def _open_model(folder: str | Path, device: str):
    from ser.speakers.xvector import XVector  # torch: seconds that a job with nothing to measure saves

    return XVector(folder, device)


def _fingerprint(folder: str | Path | None, options: list) -> str:
    """A digest of everything but the audio that a vector depends on."""
    versions = [importlib.metadata.version("torch" if folder else "opensmile")]
    card = read_json(Path(folder) / "card.json") if folder else {}
    digests = {key: value for key, value in card.items() if key.endswith("_sha256")}
    return hashlib.sha256(json.dumps([digests, versions, *options], sort_keys=True).encode()).hexdigest()[:20]
