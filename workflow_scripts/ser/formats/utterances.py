"""Labels and predictions as arrays, and the files of all runs found by ablation, seed and split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ser.files import DataError
from ser.formats.parquet import read_parquet


@dataclass(frozen=True)
class Utterances:
    """Utterances with one value per target: labels, or predictions."""

    targets: list[str]
    ids: pa.Array
    speakers: list[str]  # sorted, each once
    speaker: np.ndarray  # (utterances,) the number of an utterance's speaker in `speakers`
    values: np.ndarray  # (utterances, targets) float64; NaN where a label is withheld

    def take(self, rows: np.ndarray) -> "Utterances":
        """Some of the utterances; speakers without any are gone."""
        kept, speaker = np.unique(self.speaker[rows], return_inverse=True)
        speakers = [self.speakers[s] for s in kept]
        return Utterances(self.targets, self.ids.take(pa.array(rows)), speakers, speaker, self.values[rows])


def read_utterances(path: str | Path, targets: list[str]) -> Utterances:
    """Read a labels or predictions file."""
    table = read_parquet(path, columns=["utterance_id", "speaker_id", *targets])
    speakers, speaker = np.unique(np.asarray(table["speaker_id"].to_pylist(), dtype=str), return_inverse=True)
    ids = table["utterance_id"].combine_chunks()
    return Utterances(targets, ids, speakers.tolist(), speaker, read_values(table, targets))


def read_labels(path: str | Path, targets: list[str]) -> Utterances:
    """Read a split's labels; a target is withheld for a whole split (all null, here NaN) or for none of it."""
    labels = read_utterances(path, targets)
    missing = np.isnan(labels.values)
    for number, target in enumerate(targets):
        if missing[:, number].any() and not missing[:, number].all():
            row = labels.ids[int(np.argmax(missing[:, number]))]
            raise DataError(f"{path}: {target} of utterance {row} is missing; expected labels for all or for none")
    return labels


def read_predictions(path: str | Path, targets: list[str]) -> Utterances:
    """Read a split's predictions; all must be finite."""
    predictions = read_utterances(path, targets)
    bad = ~np.isfinite(predictions.values).all(axis=1)
    if bad.any():
        raise DataError(f"{path}: the prediction for utterance {predictions.ids[int(np.argmax(bad))]} is not finite")
    return predictions


def read_values(table: pa.Table, targets: list[str]) -> np.ndarray:
    """The targets' columns as float64 (rows, targets), null as NaN."""
    columns = [table[target].cast(pa.float64()).to_numpy() for target in targets]
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


def find_rows(ids: pa.Array | pa.ChunkedArray | list[str], known: pa.Array, where: str) -> np.ndarray:
    """The positions of utterance ids among the known ones; `where` says in an error whose ids are not in what."""
    ids = pa.array(ids, pa.string()) if isinstance(ids, list) else ids
    rows = pc.index_in(ids, value_set=known)
    if rows.null_count:
        raise DataError(f"utterance {ids.filter(pc.is_null(rows))[0]} of {where}")
    return rows.to_numpy().astype(np.int64)


def find_runs(paths: list[str]) -> dict[tuple[str, int, str], Path]:
    """Files `.../{ablation}/seed-{seed}/{split}.parquet` by (ablation, seed, split)."""
    runs = {}
    for path in map(Path, paths):
        ablation, seed = path.parts[-3], int(path.parts[-2].removeprefix("seed-"))
        runs[ablation, seed, path.name.removesuffix(".parquet")] = path
    return runs
