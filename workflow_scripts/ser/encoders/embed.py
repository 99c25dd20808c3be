"""Embedding a shard: audio decoded ahead, records in order of id, unchanged records taken from the last run."""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ser.audio.frames import SAMPLE_RATE
from ser.encoders import reuse
from ser.encoders.decoding import decode_ahead
from ser.encoders.opening import open_encoder
from ser.encoders.precision import log_saving, resolve_precision
from ser.encoders.side_by_side import Batch, use_one_thread, work_side_by_side
from ser.files import DataError, read_json, sha256
from ser.formats import manifest as manifests
from ser.formats.manifest import Utterance
from ser.formats.tfrecord import Record

log = logging.getLogger(__name__)

DECODE_AHEAD = {"cpu": 4, "cuda": 128}  # utterances: what a batch needs, and no more memory than that


def embed_shard(
    manifest: str | Path,
    encoder_dir: str | Path,
    pooled_path: str | Path,
    frames_path: str | Path | None,
    *,
    frames_layer: int | None,
    dtype: str,
    device: str,
    threads: int | None,
    audio: dict,
    reuse_dir: str | Path | None,
    fingerprint: str,
    vectors_path: str | Path | None = None,
    output: bool = False,
    precision: str = "auto",
) -> None:
    """Write a shard's pooled records and, where `frames_path` is given, the frames of layer `frames_layer`.

    `audio` holds `min_seconds`, `max_seconds` and `silence_db`; utterances that it rejects have no record. With
    `reuse_dir` (one folder an encoder and split), records of the last run are taken where the audio's content, the
    encoder, the options and the caller's `fingerprint` (of the code) are the same, and hard links to this run's files
    are left there for the next one. A personalised encoder needs `vectors_path`, the vectors of the shard's speakers
    (`placement.write_shard`). With `output` the encoder's output is all that is kept (see `Encoder.embed`).
    `precision` is `auto`, `float32` or `bfloat16`. Raises DataError where an embedding does not fit `dtype`.
    """
    encoder_dir, device = Path(encoder_dir), _resolve(device)
    outputs = {"pooled": Path(pooled_path)} | ({"frames": Path(frames_path)} if frames_path else {})
    layers = read_json(encoder_dir / "card.json")["layers"]
    if frames_path is None:
        frames_layer = None
    elif frames_layer is None or not -layers - 1 <= frames_layer <= layers:
        raise DataError(
            f"frames layer {frames_layer}: the encoder {encoder_dir} has layers 0 to {layers} (or -1, the last)"
        )
    else:
        frames_layer %= layers + 1  # -1 is the last
    utterances = manifests.read(manifest)
    shard = Path(manifest).stem
    vectors = read_json(vectors_path) if vectors_path else None
    stash: dict[str, Path] = {}
    computed = resolve_precision(precision, device)
    options = [frames_layer, dtype, device, computed]
    if reuse_dir := reuse.find_folder(reuse_dir):
        key = _fingerprint(encoder_dir, [*options, audio, fingerprint, vectors, output])
        stash = {kind: reuse_dir / f"{shard}-{key}.{kind}.tfrecord" for kind in outputs}
    reusable = reuse.find_reusable(stash.values(), utterances)
    todo = [utterance for utterance in utterances if utterance.utterance_id not in reusable]
    log.info("%s: %d utterances to embed, %d reused from the last run", shard, len(todo), len(reusable))
    if todo and precision == "auto" and device == "cpu":
        log_saving(read_json(encoder_dir / "card.json")["width"])
    new = _embed(todo, encoder_dir, frames_layer, dtype, device, threads, audio, vectors, output, computed)
    with contextlib.closing(new):
        embedded = reuse.write_records(outputs, stash, utterances, reusable, new)
    log.info("%s: %d reused, %d embedded, %d rejected", shard, len(reusable), embedded, len(todo) - embedded)
    if reuse_dir:
        reuse.forget(reuse_dir, shard, set(stash.values()))


def _embed(
    utterances: list[Utterance],
    encoder_dir: Path,
    frames_layer: int | None,
    dtype: str,
    device: str,
    threads: int | None,
    audio: dict,
    vectors: dict[str, list[float]] | None,
    output: bool,
    precision: str,
) -> Iterator[reuse.Records]:
    """Yield the records of the utterances in order, without the rejected ones."""
    if not utterances:
        return
    threads = threads or 1
    encoder = open_encoder(encoder_dir, device, 1, precision)  # torch: 2 s that a job with nothing to embed saves
    decoded = decode_ahead(utterances, audio, DECODE_AHEAD[device], threads)

    def embed(batch: Batch) -> list:
        own = None if vectors is None else [vectors[utterance.speaker_id] for utterance, _ in batch]
        return encoder.embed([samples for _, samples in batch], frames_layer, own, output)

    batches = _batches(decoded, encoder.batch_seconds * SAMPLE_RATE)
    embedded = work_side_by_side(embed, batches, threads if device == "cpu" else 1, use_one_thread)
    total, heard = len(utterances), 0.0
    with tqdm(total=total, unit="utterance", mininterval=5) as progress, contextlib.closing(decoded):
        for batch, results in embedded:
            for (utterance, samples), result in zip(batch, results, strict=True):
                arrays = {"pooled": result.pooled} | ({} if result.frames is None else {"frames": result.frames})
                yield {kind: _record(utterance, result.n_frames, array, dtype) for kind, array in arrays.items()}
                heard += len(samples) / SAMPLE_RATE
                progress.set_postfix_str(f"{heard:.0f} s of audio", refresh=False)
                progress.update()


def _batches(decoded: Iterable[tuple[Utterance, np.ndarray]], samples: int) -> Iterator[list]:
    """Group utterances until a group holds at least so many samples."""
    batch, total = [], 0
    for item in decoded:
        batch.append(item)
        total += len(item[1])
        if total >= samples:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _record(utterance: Utterance, n_frames: int, array: np.ndarray, dtype: str) -> Record:
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    if not np.isfinite(stored).all():
        if np.isfinite(array).all():
            largest = np.abs(array).max()
            raise DataError(
                f"utterance {utterance.utterance_id}: its embedding reaches {largest:.3g}, too large for {dtype}; "
                "set dtype: float32"
            )
        raise DataError(f"utterance {utterance.utterance_id}: its embedding is not finite; check the encoder's weights")
    return Record(utterance.utterance_id, utterance.speaker_id, utterance.sha256, n_frames, stored)


def _resolve(device: str) -> str:
    """`auto` as `cuda` or `cpu`; where the machine has no NVIDIA driver, without importing torch to say so."""
    if device != "auto":
        return device
    if not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg"))):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _fingerprint(encoder_dir: Path, options: list) -> str:
    """A digest of everything but the audio that an embedding depends on."""
    parts = [
        read_json(encoder_dir / "card.json")["weights_sha256"],
        *(sha256(encoder_dir / name) for name in ("config.json", "preprocessor_config.json")),
        *(importlib.metadata.version(name) for name in ("torch", "transformers")),
        *options,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
