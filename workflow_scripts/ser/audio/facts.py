"""Audio facts and speakers' mean MFCCs of a shard, in one pass over its files."""

import itertools
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from ser.audio.decode import Rejected, load
from ser.audio.mfcc import N_COEFFICIENTS, mean_mfcc
from ser.files import write_json
from ser.formats.manifest import Utterance, read
from ser.formats.parquet_seal import sealed_writer

# One row an utterance. The numbers of a rejected one are null, its reason says what is known.
FACTS = pa.schema(
    [
        ("utterance_id", pa.string()),
        ("speaker_id", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("duration_s", pa.float64()),
        ("sample_rate", pa.int32()),  # of the file, Hz
        ("channels", pa.int32()),  # of the file
        ("peak", pa.float64()),  # of the mono signal at 16 kHz, 1 is full scale
        ("rms_db", pa.float64()),  # of the mono signal at 16 kHz
        ("status", pa.string()),  # ok, rejected
        ("reason", pa.string()),  # empty if ok
    ]
)
# Of a shard with parts of files also where they are, in seconds of the file; null where the file's own.
PART_FACTS = FACTS.append(pa.field("start", pa.float64())).append(pa.field("end", pa.float64()))
ROW_GROUP = 4096  # rows in memory before they are written


class Speaker:
    """Running sums over a speaker's utterances."""

    def __init__(self):
        self.mfcc, self.n_utterances, self.seconds = np.zeros(N_COEFFICIENTS), 0, 0.0

    def add(self, mfcc: np.ndarray, seconds: float) -> None:
        self.mfcc += mfcc
        self.n_utterances += 1
        self.seconds += seconds

    def summary(self) -> dict:
        mean = self.mfcc / self.n_utterances
        return {"mfcc": mean.tolist(), "n_utterances": self.n_utterances, "seconds": self.seconds}


def measure_shard(
    manifest: str | Path,
    facts_path: str | Path,
    speakers_path: str | Path,
    *,
    min_seconds: float,
    max_seconds: float,
    silence_db: float,
) -> None:
    """Write a row of FACTS an utterance (Parquet), and each speaker's mean of utterances' mean MFCCs (JSON).

    Utterances are in the manifest's order. One that `audio.load` rejects is a row with its reason and counts for no
    speaker; a speaker without any other is left out. An utterance whose file is not the manifest's is a DataError.
    """
    speakers: dict[str, Speaker] = {}
    limits = {"min_seconds": min_seconds, "max_seconds": max_seconds, "silence_db": silence_db}
    utterances = read(manifest)
    schema = PART_FACTS if any(utterance.is_part for utterance in utterances) else FACTS
    progress = tqdm(utterances, unit="file", mininterval=5)
    rows = (_measure(utterance, speakers, limits) for utterance in progress)
    with sealed_writer(facts_path, schema) as writer:
        while group := list(itertools.islice(rows, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))
    write_json(speakers_path, {name: speaker.summary() for name, speaker in sorted(speakers.items())})


def _measure(utterance: Utterance, speakers: dict[str, Speaker], limits: dict[str, float]) -> dict:
    """The utterance's row of FACTS; its MFCCs go to its speaker's sums."""
    try:
        samples, info = load(**utterance.source, **limits)
    except Rejected as reason:
        logging.warning("%s is set aside: %s", utterance.utterance_id, reason)
        return utterance._asdict() | {"status": "rejected", "reason": str(reason)}
    speakers.setdefault(utterance.speaker_id, Speaker()).add(mean_mfcc(samples), info.duration_s)
    return utterance._asdict() | vars(info) | {"status": "ok", "reason": ""}
