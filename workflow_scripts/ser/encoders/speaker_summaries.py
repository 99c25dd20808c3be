"""Summaries of an encoder's embeddings by speaker: what similarity and shift of features are measured on."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from ser.formats import tfrecord
from ser.formats.parquet import write_parquet


def summarise_embeddings(shards: Iterable[str], path: str) -> None:
    """Write `speaker_id, n_utterances, mean, variance` of the last layer's pooled vectors, (W,), by speaker.

    The variance is the population's (divided by n), over the speaker's utterances.
    """
    vectors: dict[str, list[np.ndarray]] = defaultdict(list)
    rows = []
    for shard in shards:  # a speaker is in one shard only
        vectors.clear()
        for record in tfrecord.read(shard):
            vectors[record.speaker_id].append(record.embedding[-1].astype(np.float64))
        for speaker, values in vectors.items():
            stacked = np.stack(values)  # (utterances, W)
            rows.append((speaker, len(values), stacked.mean(axis=0), stacked.var(axis=0)))
    rows.sort(key=lambda row: row[0])
    speakers, counts, means, variances = zip(*rows, strict=True) if rows else ((), (), (), ())
    vector = pa.list_(pa.float32())
    columns = {
        "speaker_id": pa.array(speakers, pa.string()),
        "n_utterances": pa.array(counts, pa.int64()),
        "mean": pa.array([mean.astype(np.float32) for mean in means], vector),
        "variance": pa.array([variance.astype(np.float32) for variance in variances], vector),
    }
    write_parquet(path, pa.table(columns))
