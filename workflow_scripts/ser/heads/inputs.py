"""What heads are given beside features: labels and speakers' vectors; and what they take of an embedding.

Nothing here needs TensorFlow: fine-tuning reads the same with torch.
"""

from dataclasses import dataclass

import numpy as np

from ser.config.ablation import Ablation
from ser.files import DataError
from ser.formats.parquet import read_parquet
from ser.speakers.vectors import read_vectors


@dataclass(frozen=True)
class Labels:
    """Labels of utterances: `values`, (N, targets) float64, in the order of `utterance_ids`."""

    utterance_ids: list[str]
    values: np.ndarray


def read_speakers(paths: list[str]) -> dict[str, np.ndarray]:
    """The vector of each speaker of a split, (W,) float32."""
    return {speaker: vector.astype(np.float32) for speaker, vector in read_vectors(paths).items()}


def find_vector(vectors: dict[str, np.ndarray], speaker: str) -> np.ndarray:
    """A speaker's vector; a DataError names one who has none."""
    if speaker not in vectors:
        raise DataError(f"speaker {speaker} has utterances with features, but no speaker vector; run again")
    return vectors[speaker]


def read_training_labels(path: str, targets: list[str]) -> Labels:
    """The labels of a split."""
    table = read_parquet(path, ["utterance_id", *targets])
    values = np.stack([table[target].to_numpy() for target in targets], axis=1)
    return Labels(table["utterance_id"].to_pylist(), values)


def choose(embedding, length, ablation: Ablation):
    """What a head takes of a stored embedding (array or tensor) of `length` rows: layers, one layer, or frames.

    Frames are thinned evenly where there are more than the head's `max_frames`, whose square its memory grows with.
    """
    if ablation.reads_frames:
        return embedding[:: -(-length // ablation.units["max_frames"])]
    return embedding[ablation.layer] if isinstance(ablation.layer, int) else embedding
