"""What calibration may know: training speakers with their labels, and a split's speakers without theirs."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ser.config.similarities import SIMILARITIES
from ser.files import DataError, read_json
from ser.formats.parquet import read_parquet
from ser.formats.utterances import Utterances, find_rows, read_labels, read_predictions
from ser.statistics.moments import measure_speakers

# A split's files, as the workflow hands them over: lists of paths, one a seed where a seed matters.
#   predictions, fused, enrolment   one a seed
#   encoder, mfcc                   one, or one a shard; absent or empty if no method compares them


@dataclass(frozen=True)
class References:
    """The training speakers, with label statistics and vectors."""

    speakers: list[str]
    statistics: np.ndarray  # (references, 2 * targets): label means, then label standard deviations (population)
    vectors: dict[str, np.ndarray]  # similarity -> (references, width)


@dataclass(frozen=True)
class Evidence:
    """A split's predictions and speaker vectors by one seed."""

    predictions: Utterances
    vectors: dict[str, np.ndarray]  # similarity -> (speakers, width)
    enrolment: dict[str, list[tuple[str, np.ndarray]]]  # speaker -> utterances and vectors, in enrolment order

    def enrol(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Each speaker's first `count` utterances: a mask (utterances,), and their mean vectors (speakers, width)."""
        first = {speaker: self.enrolment.get(speaker, [])[:count] for speaker in self.predictions.speakers}
        for speaker, pairs in first.items():
            if not pairs:
                raise DataError(f"the enrolment vectors: expected one of speaker {speaker}, who has predictions")
        ids = [utterance for pairs in first.values() for utterance, _ in pairs]
        mask = np.zeros(len(self.predictions.ids), bool)
        mask[find_rows(ids, self.predictions.ids, "the enrolment vectors has no prediction")] = True
        return mask, np.stack([np.mean([vector for _, vector in pairs], axis=0) for pairs in first.values()])

    def align(self, labels: Utterances) -> np.ndarray:
        """The labels of the predicted utterances, (utterances, targets)."""
        return labels.values[find_rows(self.predictions.ids, labels.ids, "the predictions has no label")]


def read_references(
    labels: str, targets: list[str], files: dict[str, list[str]], seed: int, min_utterances: int
) -> References:
    """The training speakers that have vectors and enough labelled utterances, sorted.

    Args:
        files: the training split's; `seed` is the position of the seed's in them
    """
    vectors = read_vectors(files, seed)
    truth = read_labels(labels, targets)
    if np.isnan(truth.values).any():
        raise DataError(f"{labels}: expected a label for each target; training labels cannot be withheld")
    moments = [measure_speakers(column, column, truth.speaker, len(truth.speakers)) for column in truth.values.T]
    known = set.intersection(*(set(by_speaker) for by_speaker in vectors.values()))
    kept = [
        number
        for number, speaker in enumerate(truth.speakers)
        if speaker in known and moments[0].n[number] >= min_utterances
    ]
    if not kept:
        raise DataError(
            f"{labels}: no training speaker has {min_utterances} utterances and a vector "
            "(calibration: min_reference_utterances)"
        )
    means = np.stack([m.mean_true[kept] for m in moments], axis=1)
    stds = np.sqrt(np.stack([m.var_true[kept] for m in moments], axis=1))
    speakers = [truth.speakers[number] for number in kept]
    return References(
        speakers,
        np.concatenate([means, stds], axis=1),
        {name: np.stack([found[speaker] for speaker in speakers]) for name, found in vectors.items()},
    )


def read_evidence(targets: list[str], files: dict[str, list[str]], seed: int) -> Evidence:
    """A split's predictions and vectors by the seed at position `seed`."""
    predictions = read_predictions(files["predictions"][seed], targets)
    vectors = {}
    for name, found in read_vectors(files, seed).items():
        missing = sorted(set(predictions.speakers) - set(found))
        if missing:
            raise DataError(f"{files[name][0]}: expected a vector of speaker {missing[0]}, who has predictions")
        if predictions.speakers:
            vectors[name] = np.stack([found[speaker] for speaker in predictions.speakers])
    return Evidence(predictions, vectors, read_enrolment(files["enrolment"], seed))


def read_vectors(files: dict[str, list[str]], seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Speakers' vectors by similarity and speaker, from those files that are there."""
    vectors = {}
    for name, similarity in SIMILARITIES.items():
        if not (paths := files.get(name)):
            continue
        paths = [paths[seed]] if similarity.by_seed else paths
        if similarity.column:
            vectors[name] = {s: vector for path in paths for s, vector in read_column(path, similarity.column).items()}
        else:
            shards = map(read_json, paths)
            vectors[name] = {s: np.array(entry[name]) for shard in shards for s, entry in shard.items()}
    return vectors


def read_column(path: str, column: str) -> dict[str, np.ndarray]:
    """A column of vectors by speaker, as float64."""
    table = read_parquet(path, columns=["speaker_id", column])
    vectors = stack_vectors(table[column])
    return dict(zip(table["speaker_id"].to_pylist(), vectors, strict=True))


def stack_vectors(column) -> np.ndarray:
    """An Arrow column of equally long lists as (rows, width) float64."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1).astype(float) if len(column) else np.empty((0, 0))


def read_enrolment(paths: list[str], seed: int) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Enrolment utterances and their vectors by speaker, in the order of their rank; nothing without files."""
    if not paths:
        return {}
    table = read_parquet(paths[seed]).sort_by([("speaker_id", "ascending"), ("rank", "ascending")])
    enrolment = defaultdict(list)
    vectors = stack_vectors(table["vector"])
    rows = zip(table["speaker_id"].to_pylist(), table["utterance_id"].to_pylist(), vectors, strict=True)
    for speaker, utterance, vector in rows:
        enrolment[speaker].append((utterance, vector))
    return enrolment


def name_files(inputs, prefix: str = "") -> dict[str, list[str]]:
    """The files of a split among a job's named inputs: those of the training split have the prefix `train_`."""
    kinds = ("predictions", "enrolment", *SIMILARITIES)
    return {kind: list(inputs.get(f"{prefix}{kind}", [])) for kind in kinds}
