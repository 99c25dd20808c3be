"""What calibration may know: training speakers with their labels, and a split's speakers without theirs."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ser.files import DataError
from ser.formats.parquet import read_parquet
from ser.formats.utterances import Utterances, find_rows, read_labels, read_predictions, read_values
from ser.speakers.vectors import read_compared, stack_vectors
from ser.statistics.enrolment import rank_utterances
from ser.statistics.moments import measure_speakers
from ser.statistics.similarity import rank_neighbours

# A split's files, as the workflow hands them over: lists of paths, one a seed where a seed matters.
#   predictions, enrolment   one a seed
#   enrolment_labels         one, if a method enrols with labels: those of enrolled utterances alone
#   speaker vectors          by name: one, or one a shard; of `fused` one a seed; absent if no method compares them
KINDS = ("predictions", "enrolment", "enrolment_labels")


@dataclass(frozen=True)
class References:
    """The training speakers, with label statistics and vectors."""

    speakers: list[str]
    counts: np.ndarray  # (references,) labelled utterances
    statistics: np.ndarray  # (references, 2 * targets): label means, then label standard deviations (population)
    vectors: dict[str, np.ndarray]  # similarity -> (references, width)
    left_out: int  # training speakers with a vector, but with too few labelled utterances
    # mean and standard deviation over training speakers, (width,) each, of vectors that are standardised first
    scales: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def rank(self, similarity: str, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The training speakers, nearest first, and their cosines, for each row of vectors (`rank_neighbours`)."""
        known = self.vectors[similarity]
        if similarity in self.scales:
            mean, sd = self.scales[similarity]
            vectors, known = (vectors - mean) / sd, (known - mean) / sd
        return rank_neighbours(vectors, known)


@dataclass(frozen=True)
class Enrolment:
    """Single utterances, of which some enrol their speakers."""

    vectors: np.ndarray  # (utterances, width) float16
    ranks: np.ndarray  # (draws, utterances): place in the order in which a draw enrols a speaker's utterances
    held_out: int  # the first so many are scored by no method that enrols, however few it takes itself
    labels: np.ndarray  # (draws, utterances, targets); NaN but for those that a draw enrols with their labels


@dataclass(frozen=True)
class Evidence:
    """A split's predictions and speaker vectors by one seed."""

    predictions: Utterances
    vectors: dict[str, np.ndarray]  # similarity -> (speakers, width)
    enrolment: Enrolment | None = None  # None where no method enrols

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
    vectors, standardised = read_vectors(files, seed)
    truth = read_labels(labels, targets)
    if np.isnan(truth.values).any():
        raise DataError(f"{labels}: expected a label for each target; training labels cannot be withheld")
    moments = [measure_speakers(column, column, truth.speaker, len(truth.speakers)) for column in truth.values.T]
    known = set.intersection(*(set(by_speaker) for by_speaker in vectors.values()))
    candidates = [number for number, speaker in enumerate(truth.speakers) if speaker in known]
    kept = [number for number in candidates if moments[0].n[number] >= min_utterances]
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
        moments[0].n[kept],
        np.concatenate([means, stds], axis=1),
        {name: np.stack([found[speaker] for speaker in speakers]) for name, found in vectors.items()},
        len(candidates) - len(kept),
        {name: measure_scale(np.stack(list(vectors[name].values()))) for name in standardised},
    )


def measure_scale(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column; 1 for one that is constant."""
    sd = vectors.std(axis=0)
    return vectors.mean(axis=0), np.where(sd > 1e-9, sd, 1)


def read_evidence(
    targets: list[str], files: dict[str, list[str]], seed: int, draws: int = 0, held_out: int = 0
) -> Evidence:
    """A split's predictions and vectors by the seed at position `seed`; with `held_out` those of enrolment too.

    Args:
        draws: of which utterances are enrolled
        held_out: the most utterances that a method enrols
    """
    predictions = read_predictions(files["predictions"][seed], targets)
    vectors = {}
    for name, found in read_vectors(files, seed)[0].items():
        missing = sorted(set(predictions.speakers) - set(found))
        if missing:
            raise DataError(f"{files[name][0]}: expected a vector of speaker {missing[0]}, who has predictions")
        if predictions.speakers:
            vectors[name] = np.stack([found[speaker] for speaker in predictions.speakers])
    if not held_out:
        return Evidence(predictions, vectors)
    ids = predictions.ids.to_pylist()
    ranks = np.stack([rank_utterances(ids, predictions.speaker, draw) for draw in range(draws)])
    labels = read_enrolment_labels(files["enrolment_labels"], predictions, draws)
    return Evidence(
        predictions, vectors, Enrolment(read_enrolment(files["enrolment"][seed], predictions), ranks, held_out, labels)
    )


def read_vectors(files: dict[str, list[str]], seed: int) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """What speakers are compared by, by similarity and speaker, and the similarities that are standardised first."""
    vectors, standardised = {}, []
    for name, paths in files.items():
        if name not in KINDS and paths:
            vectors[name], scaled = read_compared([paths[seed]] if name == "fused" else paths)
            standardised += [name] if scaled else []
    return vectors, standardised


def read_enrolment(path: str, predictions: Utterances) -> np.ndarray:
    """The vectors of the predicted utterances, (utterances, width), of the number type that they are stored in."""
    table = read_parquet(path, columns=["utterance_id", "vector"])
    rows = find_rows(
        predictions.ids, table["utterance_id"].combine_chunks(), f"the predictions has no vector in {path}"
    )
    return stack_vectors(table["vector"])[rows]


def read_enrolment_labels(paths: list[str], predictions: Utterances, draws: int) -> np.ndarray:
    """The labels of utterances that are enrolled with them, (draws, utterances, targets); NaN for all others.

    An utterance whose audio was set aside has no prediction, and its label is not used.
    """
    labels = np.full((draws, len(predictions.ids), len(predictions.targets)), np.nan)
    for path in paths:
        table = read_cut(path, predictions.targets)
        table = table.filter(pc.is_in(table["utterance_id"], value_set=predictions.ids))
        row = find_rows(table["utterance_id"], predictions.ids, f"{path} has no prediction")
        labels[table["draw"].to_numpy(), row] = read_values(table, predictions.targets)
    return labels


def read_cut(path: str, targets: list[str]) -> pa.Table:
    """The labels of enrolled utterances that the index cut out: `draw, utterance_id, speaker_id` and the targets."""
    types = {"draw": pa.int64(), "utterance_id": pa.string(), "speaker_id": pa.string()}
    types |= dict.fromkeys(targets, pa.float64())
    options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False, null_values=[""])
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(path, parse_options=parsing, convert_options=options)


def name_files(inputs, prefix: str = "") -> dict[str, list[str]]:
    """The files of a split among a job's named inputs: those of the training split have the prefix `train_`.

    Speaker vectors go by their names, which the inputs have behind `vectors_`.
    """
    start = f"{prefix}vectors_"
    names = {kind: f"{prefix}{kind}" for kind in KINDS}
    names |= {key.removeprefix(start): key for key in inputs.keys() if key.startswith(start)}  # noqa: SIM118
    found = {name: inputs.get(key, []) for name, key in names.items()}
    return {name: [paths] if isinstance(paths, str) else list(paths) for name, paths in found.items()}
