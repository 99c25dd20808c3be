"""Vectors of speakers, made of vectors of their utterances, or of other speakers' (a control)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ser.files import DataError, read_json, write_json
from ser.formats import tfrecord
from ser.statistics.permutation import draw_donors


def average_utterances(vectors: Iterable[np.ndarray]) -> tuple[np.ndarray | None, int, int]:
    """A speaker's vector, (W,) float64: the mean of its utterances' vectors as they are, each counted once.

    They are not scaled to a common length, before or after. Utterances whose vectors are not finite do not count.
    Returns the mean (None of none), how many count, and how many do not.
    """
    total, count, left_out = 0.0, 0, 0
    for vector in vectors:
        if np.isfinite(vector).all():
            total, count = total + vector.astype(np.float64), count + 1
        else:
            left_out += 1
    return (total / count if count else None), count, left_out


def average_shard(records: str | Path, kind: str, layer: int, path: str | Path) -> None:
    """Write each speaker's mean of a row of its utterances' records (TFRecord) as JSON: `{speaker: {kind: vector}}`.

    With `n_utterances`, those that count, and `n_left_out`, those whose vectors are not finite. A speaker of whom
    none is left is a DataError. `layer` is the row, (rows, W) -> (W,).
    """
    utterances: dict[str, list[np.ndarray]] = {}
    for record in tfrecord.read(records):
        if not -len(record.embedding) <= layer < len(record.embedding):
            raise DataError(f"speaker_vectors: layer {layer} is none of {records}: 0 to {len(record.embedding) - 1}")
        utterances.setdefault(record.speaker_id, []).append(record.embedding[layer].copy())
    entries = {}
    for speaker, vectors in sorted(utterances.items()):
        mean, count, left_out = average_utterances(vectors)
        if mean is None:
            raise DataError(
                f"speaker {speaker} has no utterance that {kind} can be computed of: all {left_out} are too short"
                f"{' or unvoiced' if kind == 'egemaps' else ''}; leave the speaker out of the sheet"
            )
        entries[speaker] = {kind: mean.tolist(), "n_utterances": count, "n_left_out": left_out}
    write_json(path, entries)


def permute_speakers(paths: Iterable[str | Path], path: str | Path) -> None:
    """Write the entries of a split's speakers, each with that of another one: `{speaker: entry}` with `of`, whose."""
    entries: dict[str, dict] = {}
    for each in paths:
        entries |= read_json(each)
    donors = draw_donors(entries)
    write_json(path, {speaker: entries[donors[speaker]] | {"of": donors[speaker]} for speaker in sorted(entries)})
