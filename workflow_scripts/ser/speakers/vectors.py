"""Speakers' vectors as the files have them, read for heads that take them and for what compares speakers.

A JSON file, one per shard, has for each speaker the mean of its utterances' vectors under the name of their kind
(`mfcc`, `embeddings`, ...); a Parquet file, one per split, has them in the column `vector` or `mean`.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ser.files import DataError, read_json
from ser.formats.parquet import read_parquet, read_schema

KINDS = ("mfcc", "embeddings", "egemaps", "model", "file")
# How vectors are compared, where that is not by the cosine of all that is in them.
# c0 of MFCCs is the level of the recording and nine tenths of the squared length: without it a gain changes nothing.
FIRST_COMPARED = {"mfcc": 1}
# Functionals in hertz, decibels and seconds: each is standardised by training speakers, or the hertz alone would count.
STANDARDISED = ("egemaps",)


def read_vectors(paths: Iterable[str | Path]) -> dict[str, np.ndarray]:
    """The vector of each speaker, (W,) float64, sorted by speaker."""
    return read_kind(paths)[1]


def read_compared(paths: Iterable[str | Path]) -> tuple[dict[str, np.ndarray], bool]:
    """The part of each speaker's vector by which speakers are compared, and whether it is to be standardised."""
    kind, vectors = read_kind(paths)
    first = FIRST_COMPARED.get(kind, 0)
    return {speaker: vector[first:] for speaker, vector in vectors.items()}, kind in STANDARDISED


def read_kind(paths: Iterable[str | Path]) -> tuple[str | None, dict[str, np.ndarray]]:
    """The kind of vectors (None of Parquet files, or where nobody has one), and the vector of each speaker."""
    kind, vectors = None, {}
    for path in paths:
        if Path(path).suffix == ".parquet":
            vectors |= _read_parquet(path)
            continue
        for speaker, entry in read_json(path).items():
            kind = next((key for key in KINDS if key in entry), None)
            if kind is None:
                raise DataError(f"{path}: speaker {speaker} has no vector; delete it and run again")
            vectors[speaker] = np.array(entry[kind], np.float64)
    return kind, dict(sorted(vectors.items()))


def _read_parquet(path: str | Path) -> dict[str, np.ndarray]:
    column = "vector" if "vector" in read_schema(path).names else "mean"
    table = read_parquet(path, ["speaker_id", column])
    vectors = stack_vectors(table[column]).astype(float)
    return dict(zip(table["speaker_id"].to_pylist(), vectors, strict=True))


def stack_vectors(column) -> np.ndarray:
    """An Arrow column of equally long lists as (rows, width)."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1) if len(column) else np.empty((0, 0))
