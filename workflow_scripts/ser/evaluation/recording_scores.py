"""Scores of recordings without labels: an ablation's calibrated predictions, with how far to trust them."""

import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ser.config.calibration_methods import CHOSEN, Method
from ser.evaluation.calibration_inputs import read_evidence, read_references
from ser.evaluation.observations import observe
from ser.files import read_json
from ser.formats.csv_files import join_values, write_csv
from ser.formats.parquet import read_parquet
from ser.formats.utterances import Utterances, find_rows, read_labels, read_values
from ser.statistics.ccc import NO_VARIANCE
from ser.statistics.conformal import measure_half_width
from ser.statistics.moments import measure_speakers

SPEAKER_COLUMNS = ["speaker", "n_utterances", "enough_utterances", "calibration"]
SPEAKER_COLUMNS += ["target", "seed", "k", "alpha", "neighbours", "similarities", "max_similarity"]
REJECTED_COLUMNS = ["file", "speaker", "reason"]
ALL = "all training speakers"


@dataclass(frozen=True)
class Scores:
    """A set's predictions with one calibration, and how far such predictions are off on validation speakers."""

    mean: Utterances  # over seeds, spread out as one seed's are
    spread: np.ndarray | None  # (utterances, targets) standard deviation over seeds (n - 1); None with one seed
    half_widths: np.ndarray  # (targets,)

    def describe(self, row: int, label_range: list[float]) -> dict:
        """The cells of an utterance."""
        cells = {}
        for t, target in enumerate(self.mean.targets):
            value, half_width = self.mean.values[row, t], self.half_widths[t]
            low, high = np.clip([value - half_width, value + half_width], *label_range)
            cells |= {target: value, f"{target}_low": low, f"{target}_high": high}
            cells[f"{target}_seed_sd"] = None if self.spread is None else self.spread[row, t]
        return cells


@dataclass(frozen=True)
class Scoring:
    """How a set is scored. `method` Method("none") leaves the predictions as they are."""

    name: str  # of the set, which its speakers' ids start with (`name/speaker`); the tables leave it out
    ablation: str
    method: Method
    coverage: float
    label_range: list[float]
    min_utterances: int
    min_reference_utterances: int
    seeds: list[int]
    targets: list[str]

    @property
    def least(self) -> int:
        """The utterances that a speaker needs: one has no spread, and PLDC would return the neighbours' mean."""
        return max(2, self.min_utterances)


@dataclass(frozen=True)
class Files:
    """What a set is scored from.

    `train` and `split` are the files of the splits, as `calibration_inputs.read_references` and `read_evidence` take
    them; `calibrated` and `validation` calibrated predictions of the set and of the validation split, one per seed;
    `facts` the audio facts of the set.
    """

    train_labels: str
    validation_labels: str
    choices: str
    train: dict
    split: dict
    calibrated: list[str]
    validation: list[str]
    facts: list[str]


def score_recordings(scoring: Scoring, files: Files, paths: dict[str, str]) -> None:
    """Write the scores of a set, how its speakers were calibrated, and what audio was set aside, as CSV.

    A score is the mean over seeds of calibrated predictions, with the spread that averaging takes given back to each
    speaker (`average_seeds`). A speaker with too few utterances keeps the uncalibrated ones. `low` and `high` are the
    score plus or minus the half-width (`conformal`) of the validation errors of the same calibration, kept within the
    labels' range; `seed_sd` is the standard deviation over seeds, empty with one.

    Args:
        paths: where to write `scores`, `speakers` and `rejected`
    """
    name, method, targets = scoring.name, scoring.method, scoring.targets
    truth, scores = read_labels(files.validation_labels, targets), {}
    for calibration, fewest in ({method.name: scoring.least} | {"none": 1}).items():
        half_widths = measure_errors(files.validation, calibration, truth, fewest, scoring.coverage)
        logging.info("%s: half-widths of %s: %s", calibration, targets, half_widths)
        scores[calibration] = Scores(*read_seeds(files.calibrated, calibration, targets), half_widths)
    recordings, speakers = scores["none"].mean, []
    for speaker, count in zip(recordings.speakers, count_utterances(recordings), strict=True):
        enough = count >= scoring.least
        cells = {"speaker": speaker.removeprefix(f"{name}/"), "n_utterances": int(count)}
        cells["enough_utterances"] = "yes" if enough else "no"
        speakers.append(cells | {"calibration": method.name if enough else "none"})
    moves = list_moves(scoring, files, [speaker["calibration"] != "none" for speaker in speakers])
    summaries = [speaker | summarise_moves(own) for speaker, own in zip(speakers, moves, strict=True)]
    rows = [
        {"file": file, "ablation": scoring.ablation, "coverage": f"{scoring.coverage:g}"}
        | summaries[s]
        | scores[speakers[s]["calibration"]].describe(row, scoring.label_range)
        for row, (file, s) in enumerate(zip(recordings.ids.to_pylist(), recordings.speaker, strict=True))
    ]
    columns = ["file", "speaker", *targets]
    columns += [f"{target}_{what}" for target in targets for what in ("low", "high", "seed_sd")]
    columns += ["coverage", "ablation", "calibration", *(f"{target}_k" for target in targets)]
    write_csv(paths["scores"], [*columns, "neighbours", "n_utterances", "enough_utterances"], rows)
    calibrations = [speaker | move for speaker, own in zip(speakers, moves, strict=True) for move in own or [{}]]
    write_csv(paths["speakers"], SPEAKER_COLUMNS, calibrations)
    write_csv(paths["rejected"], REJECTED_COLUMNS, read_rejected(files.facts, name))


def list_moves(scoring: Scoring, files: Files, moved: list[bool]) -> list[list[dict]]:
    """For each speaker that is calibrated, what was chosen for each seed and target, with the neighbours it has."""
    moves: list[list[dict]] = [[] for _ in moved]
    if scoring.method.name == "none" or not moved:
        return moves
    method, targets = scoring.method, scoring.targets
    for number, seed in enumerate(scoring.seeds):
        references = read_references(files.train_labels, targets, files.train, number, scoring.min_reference_utterances)
        seen = observe(read_evidence(targets, files.split, number), method)
        points = [
            {key: choice[key] for key in ("target", "seed", *CHOSEN)}
            for choice in read_json(files.choices)["choices"]
            if (choice["seed"], choice["calibration"]) == (seed, method.name)
        ]
        order, cosines = references.rank(method.similarity, seen.vectors)
        for s in np.flatnonzero(moved):
            near = [references.speakers[r] for r in order[s]]
            moves[s] += [point | name_neighbours(method, point["k"], near, cosines[s]) for point in points]
    return moves


def count_utterances(utterances: Utterances) -> np.ndarray:
    """The number of utterances of each speaker, (speakers,)."""
    return np.bincount(utterances.speaker, minlength=len(utterances.speakers))


def read_seeds(paths: list[str], calibration: str, targets: list[str]) -> tuple[Utterances, np.ndarray | None]:
    """Predictions with a calibration, sorted by id: averaged over seeds, and their standard deviation if several."""
    runs = []
    for path in paths:
        table = read_parquet(path)
        table = table.filter(pc.equal(table["calibration"].cast("string"), calibration)).sort_by("utterance_id")
        runs.append(read_values(table, targets))  # every seed predicts the same utterances
    speakers, speaker = np.unique(np.asarray(table["speaker_id"].to_pylist(), dtype=str), return_inverse=True)
    ids = pa.array(table["utterance_id"].to_pylist(), pa.string())
    spread = np.std(runs, axis=0, ddof=1) if len(runs) > 1 else None
    return Utterances(targets, ids, speakers.tolist(), speaker, average_seeds(np.array(runs), speaker)), spread


def average_seeds(runs: np.ndarray, speaker: np.ndarray) -> np.ndarray:
    """The mean over seeds, (utterances, targets), stretched around each speaker's own mean.

    Seeds differ, so that their mean is spread less than they are, and calibration had given each of them the spread
    that it should have. It is stretched to the mean of the seeds' standard deviations; but by no more than the root
    of the number of seeds, which is what averaging takes of seeds that have nothing in common: what little is left of
    seeds that contradict each other is no order to be made much of.

    Args:
        runs: (seeds, utterances, targets)
        speaker: (utterances,) the speakers' numbers
    """
    average, n_speakers = runs.mean(axis=0), int(speaker.max(initial=-1)) + 1
    for t, column in enumerate(average.T):
        means = measure_speakers(column, column, speaker, n_speakers)
        sds = [np.sqrt(measure_speakers(run, run, speaker, n_speakers).var_pred) for run in runs[:, :, t]]
        constant = means.var_pred <= NO_VARIANCE
        stretch = np.mean(sds, axis=0) / np.where(constant, 1, np.sqrt(means.var_pred))
        stretch = np.where(constant, 1, np.minimum(stretch, np.sqrt(len(runs))))
        centre = means.mean_pred[speaker]
        average[:, t] = centre + stretch[speaker] * (column - centre)
    return average


def measure_errors(
    validation: list[str], calibration: str, truth: Utterances, fewest: int, coverage: float
) -> np.ndarray:
    """The half-width of each target's intervals, (targets,), from validation speakers with enough utterances."""
    known = read_seeds(validation, calibration, truth.targets)[0]
    enough = np.flatnonzero(count_utterances(known)[known.speaker] >= fewest)
    known = known.take(enough)
    errors = np.abs(known.values - truth.values[find_rows(known.ids, truth.ids, "the predictions has no label")])
    return np.array([measure_half_width(column, known.speaker, coverage) for column in errors.T])


def name_neighbours(method: Method, k: int, near: list[str], cosines: np.ndarray) -> dict:
    """The cells that name the first k of the training speakers, nearest first."""
    if method.neighbours == "all":
        return {"names": [ALL], "neighbours": ALL}
    similarities = ";".join(f"{cosine:.6f}" for cosine in cosines[:k])
    return {"names": near[:k], "neighbours": ";".join(near[:k]), "similarities": similarities}


def summarise_moves(moves: list[dict]) -> dict:
    """A speaker's k for each target, and all neighbours of any seed and target, those of most of them first."""
    cells = {f"{move['target']}_k": [] for move in moves}
    for move in moves:
        cells[f"{move['target']}_k"].append(move["k"])
    names = Counter(name for move in moves for name in move["names"])
    ranked = sorted(names, key=lambda name: (-names[name], name))
    return {name: join_values(values) for name, values in cells.items()} | {"neighbours": ";".join(ranked)}


def read_rejected(facts: list[str], name: str) -> list[dict]:
    """The recordings that were set aside, with the reason, sorted."""
    rows = []
    for path in facts:
        table = read_parquet(path, columns=["utterance_id", "speaker_id", "status", "reason"])
        for row in table.filter(pc.equal(table["status"], "rejected")).to_pylist():
            speaker = row["speaker_id"].removeprefix(f"{name}/")
            rows.append({"file": row["utterance_id"], "speaker": speaker, "reason": row["reason"]})
    return sorted(rows, key=lambda row: row["file"])
