"""The cells of the result tables: calibrated predictions brought together with labels, as moments per speaker."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from ser.config.calibration_methods import Method, find_counterpart
from ser.files import DataError
from ser.formats.parquet import read_parquet
from ser.formats.utterances import Utterances, find_rows, read_values
from ser.statistics.ccc import NO_VARIANCE
from ser.statistics.moments import Moments, measure_speakers, stack
from ser.statistics.pldc import fit_line

ORACLE = "true mean and spread (test labels)"
CEILING_A, CEILING_O = "ceiling of A-CCC (test labels)", "ceiling of O-CCC (test labels)"
WITH_TEST_LABELS = (ORACLE, CEILING_A, CEILING_O)  # calibrations that no system can have, of every ablation
CONSTANT = "constant predictor"
SPEAKER_MEAN = "speaker-mean predictor (test labels)"

Predictions = dict[str, tuple[np.ndarray, np.ndarray]]  # calibration -> rows of the labels, values (rows, targets)


@dataclass(frozen=True)
class Cell:
    """Predictions of one target for a split's speakers, and the predictions that they are compared with."""

    ablation: str
    calibration: str
    target: int
    # Predictions' arrays are (runs, speakers): a run is a seed, or a seed and a draw, all draws of a seed together. Of
    # draws of enrolled utterances labels' arrays are so too: each leaves others to be scored.
    moments: Moments
    reference: Moments | None  # of the same utterances; None where there is nothing to compare with
    n_seeds: int
    counterpart: Moments | None = None  # of the same utterances: the method that has all utterances, without labels

    @property
    def paired(self) -> bool:
        """Whether it is compared with predictions of the same models: the seeds are then the same too."""
        return self.calibration != "none"

    def take(self, speakers: np.ndarray) -> "Cell":
        """The cell of some of the speakers."""
        others = {name: getattr(self, name) for name in ("reference", "counterpart")}
        others = {name: moments and moments.take(speakers) for name, moments in others.items()}
        return replace(self, moments=self.moments.take(speakers), **others)


def build_cells(
    paths: dict[tuple[str, int], Path], labels: Utterances, methods: list[Method], baseline: str, constant: np.ndarray
) -> tuple[list[str], Iterator[Cell]]:
    """The speakers of a split that have predictions, and the split's cells, one ablation in memory at a time.

    Args:
        paths: the calibrated predictions of the split by (ablation, seed)
        labels: the split's labels with the targets' columns named; a target that is withheld has no cells
        constant: what the constant predictor says for each target: the mean training label
    """
    first = min(path for (ablation, _), path in paths.items() if ablation == baseline)
    labels = labels.take(find_predicted(first, labels))
    return labels.speakers, generate_cells(paths, labels, methods, baseline, constant)


def generate_cells(paths, labels: Utterances, methods: list[Method], baseline: str, constant) -> Iterator[Cell]:
    """The cells of `build_cells`; the baseline's come first, because the others are compared with it."""
    targets = [t for t in range(len(labels.targets)) if not np.isnan(labels.values[:, t]).any()]
    if not len(labels.ids) or not targets:
        return
    base: dict[int, Moments] = {}
    for ablation in sorted({name for name, _ in paths}, key=lambda name: (name != baseline, name)):
        seeds = sorted(seed for name, seed in paths if name == ablation)
        runs = [read_calibrated(paths[ablation, seed], labels) for seed in seeds]
        for target in targets:
            none = measure(labels, runs, "none", target)
            yield Cell(ablation, "none", target, none, base.get(target), len(seeds))
            base.setdefault(target, none)
            for method in methods:
                counterpart = find_counterpart(method, methods) if method.enrolment else None
                yield build_calibrated(ablation, method, target, labels, runs, none, counterpart)
            for name, moments in zip(WITH_TEST_LABELS, calibrate_with_labels(none), strict=True):
                yield Cell(ablation, name, target, moments, none, len(seeds))
    n_seeds = sum(name == baseline for name, _ in paths)
    for target in targets:
        zero = np.zeros_like(base[target].mean_true)
        for name, mean in {CONSTANT: zero + constant[target], SPEAKER_MEAN: base[target].mean_true}.items():
            moments = replace(base[target], mean_pred=mean, var_pred=zero, covariance=zero)
            yield Cell(name, "none", target, moments, base[target], n_seeds)


def calibrate_with_labels(none: Moments) -> tuple[Moments, Moments, Moments]:
    """Predictions moved, by speaker, to the true mean and spread, and to those that are best for A-CCC and for O-CCC.

    Right in mean and spread is not best. Of the lines that never fall, which is what a mean and a spread make of a
    speaker's predictions, that with the true mean has the CCC 2 b c / (s_y^2 + b^2 s_p^2) at the slope b, with the
    covariance c. It is largest at b = s_y / s_p, where it is r; but where r < 0 that is the worst, and b = 0 is best.

    For one CCC over all utterances let f be the least squares fit of the labels by such lines: slopes c / s_p^2, or 0
    where c < 0. No such predictions p have a covariance with the labels above that of p with f, so that their CCC is
    at most 2 s_f s_p / (s_y^2 + s_p^2) <= s_f / s_y, over all utterances; f stretched around its mean to the spread
    of the labels reaches it.
    """
    slope, mean = fit_line("mu_sigma", none.mean_pred, np.sqrt(none.var_pred), none.mean_true, np.sqrt(none.var_true))
    rises = (none.covariance > 0) & (none.var_pred > NO_VARIANCE)
    fit = none.transform(np.where(rises, none.covariance, 0) / np.where(rises, none.var_pred, 1), mean)
    whole = fit.pool()
    explained = np.where(whole.var_pred > NO_VARIANCE, whole.var_pred, whole.var_true)
    stretch = np.sqrt(whole.var_true / np.where(explained > NO_VARIANCE, explained, 1))[..., None]  # (runs, 1)
    centre = whole.mean_true[..., None]
    stretched = fit.transform(stretch, centre + stretch * (mean - centre))
    return none.transform(slope, mean), none.transform(np.where(rises, slope, 0), mean), stretched


def build_calibrated(
    ablation: str,
    method: Method,
    target: int,
    labels: Utterances,
    runs: list,
    none: Moments,
    counterpart: Method | None = None,
) -> Cell:
    """The cell of a calibration, compared with the same ablation uncalibrated on the same utterances."""
    draws = [name for name in runs[0] if method.owns(name)]
    if not draws:  # no speaker has utterances beyond those for enrolment
        empty = measure_speakers([], [], np.empty(0, int), len(labels.speakers))
        return Cell(ablation, method.name, target, empty, empty, len(runs))
    if not method.enrolment:
        moments = stack([measure_run(labels, run[name], target) for run in runs for name in draws])
        return Cell(ablation, method.name, target, moments, none, len(runs))

    def measure_scored(calibration: str | None) -> Moments:
        """The moments of the utterances that each draw leaves, by the method itself or another calibration."""
        parts = [
            measure_run(labels, take_rows(run[calibration or name], run[name][0]), target)
            for run in runs
            for name in draws
        ]
        return stack(parts, of_same_utterances=False)

    other = measure_scored(counterpart.name) if counterpart else None
    own, none = measure_scored(None), measure_scored("none")
    return Cell(ablation, method.name, target, own, none, len(runs), other)


def take_rows(predictions: tuple[np.ndarray, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The predictions of some rows of the labels; they are sorted, and there are some of each row."""
    known, values = predictions
    return rows, values[np.searchsorted(known, rows)]


def measure(labels: Utterances, runs: list[Predictions], calibration: str, target: int) -> Moments:
    """The moments of all seeds' predictions with a calibration."""
    return stack([measure_run(labels, run[calibration], target) for run in runs])


def measure_run(labels: Utterances, predictions: tuple[np.ndarray, np.ndarray], target: int) -> Moments:
    """The moments of one seed's predictions of one target."""
    rows, values = predictions
    return measure_speakers(labels.values[rows, target], values[:, target], labels.speaker[rows], len(labels.speakers))


def find_predicted(path: Path, labels: Utterances) -> np.ndarray:
    """The rows of the labels that a run has predictions for (rejected audio has none)."""
    table = read_parquet(path, columns=["utterance_id", "calibration"])
    ids = table.filter(pc.equal(table["calibration"].cast("string"), "none"))["utterance_id"]
    return np.sort(find_rows(ids, labels.ids, f"{path} has no label row"))


def read_calibrated(path: Path, labels: Utterances) -> Predictions:
    """Read one run's predictions by calibration, each in the order of the labels."""
    table = read_parquet(path)
    rows = find_rows(table["utterance_id"], labels.ids, f"{path} is not predicted by the baseline")
    values = read_values(table, labels.targets)
    calibration = table["calibration"].cast("string").combine_chunks().dictionary_encode()
    code, predictions = calibration.indices.to_numpy(), {}
    for number, name in enumerate(calibration.dictionary.to_pylist()):
        here = np.flatnonzero(code == number)
        here = here[np.argsort(rows[here])]
        predictions[name] = (rows[here], values[here])
    if not np.array_equal(predictions["none"][0], np.arange(len(labels.ids))):
        raise DataError(f"{path}: expected each of the {len(labels.ids)} utterances that the baseline predicts, once")
    return predictions
