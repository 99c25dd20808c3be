"""What heads are given beside features: labels and speakers' vectors; and what they take of an embedding.

Nothing here needs TensorFlow: fine-tuning reads the same with torch.
"""

import random
from dataclasses import dataclass

import numpy as np

from ser.config.ablation import Ablation
from ser.files import read_json
from ser.formats.parquet import read_parquet


@dataclass(frozen=True)
class Labels:
    """Labels of utterances: `values`, (N, targets) float64, in the order of `utterance_ids`."""

    utterance_ids: list[str]
    values: np.ndarray


def read_speakers(paths: list[str], permuted: bool = False) -> dict[str, np.ndarray]:
    """Averaged MFCCs, (13,), of each speaker of a split; `permuted` gives each the vector of another (a control)."""
    vectors = {}
    for path in paths:
        vectors |= {speaker: np.array(entry["mfcc"], np.float32) for speaker, entry in read_json(path).items()}
    speakers = sorted(vectors)
    if permuted and len(speakers) > 1:
        order = random.Random(len(speakers)).sample(speakers, len(speakers))
        donors = dict(zip(order, order[1:] + order[:1], strict=True))  # one cycle: nobody keeps the own vector
        return {speaker: vectors[donors[speaker]] for speaker in speakers}
    return {speaker: vectors[speaker] for speaker in speakers}


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
