"""What calibration made and saw, as plain dictionaries: for tests that write the methods out again."""

import csv

import numpy as np

from ser.files import read_json
from ser.formats.parquet import read_parquet


def read(path):
    return read_parquet(path).to_pylist()


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_speaker(rows, target):
    values = {}
    for row in rows:
        values.setdefault(row["speaker_id"], []).append(row[target])
    return {speaker: np.array(v, float) for speaker, v in values.items()}


def nearest(vectors, references, speaker, k):
    """The k most similar training speakers, by the cosine written out."""

    def cosine(other):
        a, b = np.array(vectors[speaker]), np.array(references[other])
        return a @ b / np.sqrt((a @ a) * (b @ b))

    return sorted(references, key=cosine, reverse=True)[:k]


def read_vectors(path):
    return {row["speaker_id"]: row["vector"] for row in read(path)}


def choice_of(made, ablation, seed, calibration, target):
    choices = read_json(made.choices(ablation))["choices"]
    key = (seed, calibration, target)
    return next(c for c in choices if (c["seed"], c["calibration"], c["target"]) == key)
