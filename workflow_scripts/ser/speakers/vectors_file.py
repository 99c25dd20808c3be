"""Speaker vectors that other tools made: a Parquet file with the columns `speaker_id` and `vector`.

`name` is what the config calls them: every error begins with the key of the file.
"""

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from ser.files import DataError, write_json
from ser.formats import manifest as manifests
from ser.formats.parquet import read_parquet


@functools.lru_cache(maxsize=4)
def read_file(name: str, path: str) -> dict[str, np.ndarray]:
    """The vectors of a file, (W,) float64, by speaker.

    Raises DataError, naming the file and the speaker, for what is no such table, a speaker that is there twice, vectors
    of differing lengths, and numbers that are not finite.
    """
    place = _place(name, path)
    if not Path(path).is_file():
        raise DataError(f"{place}: is no file, expected a Parquet file with speaker_id and vector")
    try:
        table = read_parquet(path, ["speaker_id", "vector"], own=False)
    except DataError as error:
        raise DataError(f"{_place(name)}: {error}") from None
    kind = table["vector"].type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise DataError(f"{place}: column vector holds {kind}, expected lists of numbers")
    vectors: dict[str, np.ndarray] = {}
    for number, (speaker, values) in enumerate(
        zip(table["speaker_id"].to_pylist(), table["vector"].to_pylist(), strict=True), 1
    ):
        speaker, where = str(speaker), f"{place}: row {number}, speaker {speaker}"
        if speaker in vectors:
            raise DataError(f"{where}: is there twice")
        try:
            vector = np.array(values or [], np.float64)
        except (TypeError, ValueError):
            vector = np.array([np.nan])
        first = next(iter(vectors.values()), vector)
        if not len(vector) or len(vector) != len(first):
            raise DataError(f"{where}: has {len(vector)} numbers, expected {len(first) or 'some'} as the others have")
        if not np.isfinite(vector).all():
            raise DataError(f"{where}: has numbers that are missing or not finite")
        vectors[speaker] = vector
    return vectors


def check_file(name: str, path: str, shards: Iterable[str | Path]) -> None:
    """Raise DataError where a speaker of the manifests has no vector in the file, naming the first and how many."""
    known = read_file(name, path)
    speakers = {utterance.speaker_id for shard in shards for utterance in manifests.read(shard)}
    if missing := sorted(speakers - set(known)):
        raise DataError(
            f"{_place(name, path)}: has no vector of speaker {missing[0]} "
            f"({len(missing)} of {len(speakers)} are missing)"
        )


def digest_shard(name: str, path: str, manifest: str | Path) -> str:
    """A digest of the vectors of a shard's speakers: another speaker's in the file is no reason to run again."""
    taken = _take(name, path, manifest)
    return hashlib.sha256(b"".join(s.encode() + v.tobytes() for s, v in taken.items())).hexdigest()


def take_shard(name: str, path: str, manifest: str | Path, out: str | Path) -> None:
    """Write the vectors of a shard's speakers as JSON: `{speaker: {"file": vector}}`."""
    write_json(out, {speaker: {"file": vector.tolist()} for speaker, vector in _take(name, path, manifest).items()})


def _place(name: str, *path: str) -> str:
    return ": ".join([f"config: speaker_vectors.{name}.file", *path])


def _take(name: str, path: str, manifest: str | Path) -> dict[str, np.ndarray]:
    check_file(name, path, [manifest])
    known = read_file(name, path)
    return {speaker: known[speaker] for speaker in sorted({u.speaker_id for u in manifests.read(manifest)})}
