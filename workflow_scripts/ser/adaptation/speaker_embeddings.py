"""Vectors of speakers for a personalised encoder: a speaker's own, or the mean of similar training speakers'."""

from pathlib import Path

import numpy as np

from ser.adaptation.neighbours import place_speakers, read_means
from ser.adaptation.prediction_head import read_vectors
from ser.files import write_json
from ser.formats import tfrecord
from ser.formats.manifest import read as read_manifest


def write_shard(
    manifest: str, head: str, known_means: list[str], embeddings: str | None, k: int | None, path: str | Path
) -> None:
    """Write `{speaker_id: [W floats]}` for the speakers of a shard (JSON).

    Args:
        manifest: the shard's manifest
        head: the encoder's `adaptation.safetensors`
        known_means: summaries by speaker, of the splits that pre-training heard, by the encoder that speakers are
            compared by; none where it heard this shard's
        embeddings: this shard's embeddings by that encoder, or None; a speaker without any is left out
        k: neighbours of a speaker without a vector of its own; None without `embeddings`
    """
    vectors = read_vectors(head)
    speakers = {utterance.speaker_id for utterance in read_manifest(manifest)}
    own = {speaker: vectors[speaker] for speaker in speakers & set(vectors)}
    if embeddings:
        means = {name: mean for name, mean in read_means(known_means).items() if name in vectors}
        means |= {name: mean for name, mean in _mean_embeddings(embeddings).items() if name not in vectors}
        for speaker, names in place_speakers(means, list(vectors), k).items():
            own[speaker] = np.mean([vectors[name] for name in names], axis=0)
    write_json(path, {speaker: own[speaker].astype(float).tolist() for speaker in sorted(own)})


def _mean_embeddings(path: str) -> dict[str, np.ndarray]:
    """Speakers' means of the last layer's pooled vectors, (W,) float32, as `summaries` has them."""
    vectors: dict[str, list[np.ndarray]] = {}
    for record in tfrecord.read(path):
        vectors.setdefault(record.speaker_id, []).append(record.embedding[-1].astype(np.float64))
    return {speaker: np.mean(values, axis=0).astype(np.float32) for speaker, values in vectors.items()}
