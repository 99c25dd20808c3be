"""What pseudo-labels lie in: the clusters of frames, and the cluster of each frame of a shard."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from ser.encoders.past import Past
from ser.files import DataError
from ser.formats.parquet import read_parquet
from ser.formats.tensors import read_tensors, write_tensors

SCHEMA = pa.schema(
    [
        ("utterance_id", pa.string()),
        ("speaker_id", pa.string()),
        ("sha256", pa.string()),  # of the audio file
        ("labels", pa.list_(pa.uint16())),  # one a frame
    ]
)


def read_frame_labels(path: str | Path) -> list[tuple[str, str, str, np.ndarray]]:
    """Rows of (utterance id, speaker id, SHA-256 of the audio, labels of its frames)."""
    table = read_parquet(path)
    labels = table["labels"].combine_chunks()
    values = labels.values.to_numpy() if len(labels) else np.empty(0, np.uint16)
    ends = labels.offsets.to_numpy()
    parts = [values[start:end] for start, end in zip(ends, ends[1:], strict=False)]
    return list(zip(*(table[name].to_pylist() for name in SCHEMA.names[:3]), parts, strict=True))


def write_clusters(path: str | Path, centroids: np.ndarray, past: Past) -> None:
    """Write centroids, (clusters, features), and which audio they and the encoder behind them have heard."""
    write_tensors(path, {"centroids": centroids}, {"past": json.dumps([past.told, sorted(past.lines)])})


def read_clusters_past(path: str | Path) -> Past:
    """Which audio the clusters of `write_clusters` come from."""
    _, metadata = read_tensors(path)
    if "past" not in metadata:
        raise DataError(f"{path}: does not say which audio it was made of; delete it and run again")
    told, lines = json.loads(metadata["past"])
    return Past(tuple(told), frozenset(lines))


def read_clusters(path: str | Path) -> np.ndarray:
    """Centroids, (clusters, features) float32."""
    tensors, _ = read_tensors(path)
    if "centroids" not in tensors:
        raise DataError(f"{path}: holds no clusters of pseudo-labels")
    return tensors["centroids"]
