"""The shift of each test speaker against the training set, and what it has to do with performance.

As in the paper a shift is the Kullback-Leibler divergence of a speaker's distribution from that of the
whole training set. Both are taken as Gaussian, the features' with a diagonal covariance: KL then has a closed form,
there is no bin width to choose, and mean and spread are just what PLDC moves.

Mean and spread of few utterances lie far from those of many by chance alone. What that adds (`expect_divergence`) is
subtracted, so that a shift is 0 on average over speakers who are like the training set, whatever their number of
utterances; a single one can be negative.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtr, digamma

from ser.evaluation.shift_plot import plot_shifts
from ser.formats.csv_files import read_table, write_csv
from ser.formats.parquet import read_parquet
from ser.formats.utterances import read_labels
from ser.speakers.vectors import stack_vectors
from ser.statistics.bootstrap import draw_speakers, find_interval
from ser.statistics.ccc import NO_VARIANCE
from ser.statistics.moments import Moments, measure_speakers

SHIFT_COLUMNS = [
    *("ablation", "calibration", "target", "split", "speaker_id", "n"),
    *("feature_shift", "label_shift", "ccc", "gain"),
]
CORRELATION_COLUMNS = [
    *("ablation", "calibration", "target", "split"),
    *("x", "y", "n_speakers", "r", "r_low", "r_high"),
    *("r_given_n", "r_given_n_low", "r_given_n_high"),
]
SPEAKER_TEXTS = ("speaker_id", "ablation", "calibration", "target", "split")  # of the speaker table
PAIRS = [
    ("feature_shift", "ccc"),
    ("label_shift", "ccc"),
    ("feature_shift", "label_shift"),
    ("feature_shift", "gain"),
    ("label_shift", "gain"),
]
ALL_OF_IT = 1e-9  # unexplained variance below which rounding is all that is left
VARIANCE_FLOOR = 1e-6  # of the training variance: few utterances can agree in a dimension, and log 0 is infinite


@dataclass(frozen=True)
class Gaussians:
    """The mean and the variance of each speaker's distribution, with a diagonal covariance."""

    speakers: list[str]
    n: np.ndarray  # (speakers,)
    mean: np.ndarray  # (speakers, width)
    variance: np.ndarray  # (speakers, width), population

    def pool(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean and variance, (width,) each, of all utterances together."""
        share = self.n[:, None] / self.n.sum()
        mean = np.sum(share * self.mean, axis=0)
        return mean, np.sum(share * (self.variance + (self.mean - mean) ** 2), axis=0)

    def diverge(self, mean: np.ndarray, variance: np.ndarray) -> dict[str, float]:
        """KL(speaker || reference) in nats by speaker, summed over the dimensions in which the reference varies.

        It is less what it would be by chance (`expect_divergence`). A speaker with one utterance, or without any
        spread, has no distribution to speak of and is left out.
        """
        if not self.speakers:
            return {}
        varied = variance > NO_VARIANCE
        ratio = np.maximum(self.variance[:, varied] / variance[varied], VARIANCE_FLOOR)
        distance = (self.mean[:, varied] - mean[varied]) ** 2 / variance[varied]
        kl = 0.5 * np.sum(ratio + distance - 1 - np.log(ratio), axis=1)
        known = np.flatnonzero((self.n > 1) & (self.variance > NO_VARIANCE).any(axis=1))
        shifts = kl[known] - varied.sum() * expect_divergence(self.n[known])
        return {self.speakers[s]: float(shift) for s, shift in zip(known, shifts, strict=True)}


def expect_divergence(n: np.ndarray) -> np.ndarray:
    """What KL(speaker || reference) is on average, in nats a dimension, for n utterances drawn from the reference.

    With the mean m and the population variance v of n draws from N(mu, s^2), KL(N(m, v) || N(mu, s^2)) is
    1/2 [v/s^2 + (m - mu)^2/s^2 - 1 - ln(v/s^2)]. The first two terms are (n - 1)/n and 1/n on average and cancel the 1.
    n v/s^2 is chi-squared with n - 1 degrees of freedom, the logarithm of which is ln 2 + psi((n - 1)/2) on average.
    What is left is 1/2 [ln n - ln 2 - psi((n - 1)/2)]: 0.98 nats at n = 2, 0.02 at 50.

    A floor f under v/s^2 (VARIANCE_FLOOR) takes 1/2 of the integral of P(v/s^2 < x)/x from 0 to f off that. P is
    proportional to x^((n - 1)/2) there, so that it is P(v/s^2 < f)/(n - 1): 0.001 nats at n = 2, else nothing.
    """
    freedom = n - 1
    return 0.5 * (np.log(n / 2) - digamma(freedom / 2)) - chdtr(freedom, n * VARIANCE_FLOOR) / freedom


def study_label_shift(
    speaker_table: str,
    train_labels: str,
    labels: dict[str, str],
    train_features: dict[str, str],
    features: dict[tuple[str, str], str],
    ablations: dict[str, str],
    targets: list[str],
    baseline: str,
    calibration: str,
    bootstrap: dict,
    shifts: str,
    correlations: str,
    plot: str,
) -> None:
    """Write the shifts of all test speakers, their correlations with performance, and a plot of the baseline's.

    Args:
        labels: the labels file of each test split
        train_features, features: summaries by encoder, and by encoder and test split
        ablations: the encoder of each ablation
        calibration: the method whose gain over no calibration is studied
    """
    feature_shifts = {}
    for (encoder, split), path in features.items():
        feature_shifts[encoder, split] = read_features(path).diverge(*read_features(train_features[encoder]).pool())
    label_shifts = {split: measure_label_shift(train_labels, path, targets) for split, path in labels.items()}
    rows = []
    for row in read_speaker_table(speaker_table, list(ablations), list(labels), calibration):
        speaker, split = row["speaker_id"], row["split"]
        row["feature_shift"] = feature_shifts[ablations[row["ablation"]], split].get(speaker)
        row["label_shift"] = label_shifts[split][row["target"]].get(speaker)
        rows.append(row | {"calibration": calibration})
    found = correlate_shifts(rows, bootstrap)
    write_csv(shifts, SHIFT_COLUMNS, rows)
    write_csv(correlations, CORRELATION_COLUMNS, found)
    plot_shifts(plot, [row for row in rows if row["ablation"] == baseline], targets, calibration)


def read_features(path: str) -> Gaussians:
    """The summary of an encoder's embeddings of a split."""
    table = read_parquet(path)
    means, variances = (stack_vectors(table[name]) for name in ("mean", "variance"))
    return Gaussians(table["speaker_id"].to_pylist(), table["n_utterances"].to_numpy(), means, variances)


def measure_label_shift(train_labels: str, labels: str, targets: list[str]) -> dict[str, dict[str, float]]:
    """The label shift by target and speaker; nothing for a target that is withheld."""
    train, split = read_labels(train_labels, targets), read_labels(labels, targets)
    shifts = {}
    for t, target in enumerate(targets):
        own = measure_speakers(split.values[:, t], split.values[:, t], split.speaker, len(split.speakers))
        speakers = Gaussians(split.speakers, own.n, own.mean_true[:, None], own.var_true[:, None])
        whole = train.values[:, t]
        shifts[target] = speakers.diverge(whole.mean(keepdims=True), whole.var(keepdims=True))
    return shifts


def read_speaker_table(path: str, ablations: list[str], splits: list[str], calibration: str) -> list[dict]:
    """Uncalibrated rows of the speaker table, with the gain of a calibration: `ccc`, `gain`, None where empty."""
    rows = [
        row | {"n": int(row["n"])}
        for row in read_table(path, SPEAKER_TEXTS)
        if row["ablation"] in ablations and row["split"] in splits and row["calibration"] in ("none", calibration)
    ]
    key = ("ablation", "target", "split", "speaker_id")
    gains = {tuple(row[k] for k in key): row["delta_ccc"] for row in rows if row["calibration"] == calibration}
    return [row | {"gain": gains.get(tuple(row[k] for k in key))} for row in rows if row["calibration"] == "none"]


def correlate_shifts(rows: Iterable[dict], bootstrap: dict) -> list[dict]:
    """Pearson correlations over the speakers of each ablation, target and split, with bootstrap intervals."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in CORRELATION_COLUMNS[:4]), []).append(row)
    found = []
    for key, members in groups.items():
        for x, y in PAIRS:
            known = [row for row in members if row[x] is not None and row[y] is not None]
            pairs, n = [(row[x], row[y]) for row in known], [row["n"] for row in known]
            cells = dict(zip(CORRELATION_COLUMNS, (*key, x, y), strict=False)) | correlate(pairs, **bootstrap)
            found.append(cells | correlate_given_n(pairs, n, **bootstrap))
    return found


def correlate(pairs: list[tuple[float, float]], draws: int, seed: int) -> dict:
    """Pearson's r over speakers with its interval; nothing for fewer than 3 speakers or where a side is constant."""
    n = len(pairs)
    if n < 3 or _is_constant(pairs):
        return {"n_speakers": n}
    x, y = np.array(pairs).T
    interval = find_interval(_correlate(x, y, draw_speakers(n, draws, seed)), n) or ()
    return {"n_speakers": n, "r": float(_correlate(x, y))} | dict(zip(("r_low", "r_high"), interval, strict=False))


def correlate_given_n(pairs: list[tuple[float, float]], n: list[int], draws: int, seed: int) -> dict:
    """The partial correlation over speakers given ln n, their numbers of utterances, with its interval.

    A speaker's CCC rests on n utterances, and so does a shift: n alone can make them go together. What is left when
    the straight lines through ln n are taken off both sides is (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)).
    It is r where all speakers have as many utterances; nothing for fewer than 4 speakers, or where n says it all.
    """
    if len(pairs) < 4 or _is_constant(pairs):
        return {}
    x, y = np.array(pairs).T
    z = np.log(n)

    def measure(weights: np.ndarray | None = None) -> np.ndarray:
        xy, xz, yz = (_correlate(*sides, weights) for sides in ((x, y), (x, z), (y, z)))
        left = (1 - xz**2) * (1 - yz**2)
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw of few speakers can lie on a line
            return np.where(left > ALL_OF_IT, np.clip((xy - xz * yz) / np.sqrt(left), -1, 1), np.nan)

    r = measure()
    if np.isnan(r):
        return {}
    interval = find_interval(measure(draw_speakers(len(pairs), draws, seed)), len(pairs)) or ()
    return {"r_given_n": float(r)} | dict(zip(("r_given_n_low", "r_given_n_high"), interval, strict=False))


def _is_constant(pairs: list[tuple[float, float]]) -> bool:
    return any(np.var(side) <= NO_VARIANCE for side in zip(*pairs, strict=True))


def _correlate(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Pearson's r of speakers' figures, (speakers,) each, or (draws,) with `weights` (draws, speakers)."""
    # Sums of squares of figures far from 0 would lose a constant side in rounding.
    x, y = (side - side.mean() if np.var(side) <= NO_VARIANCE else (side - side.mean()) / side.std() for side in (x, y))
    zero = np.zeros(len(x))
    return Moments(np.ones(len(x)), x, y, zero, zero, zero).pool(weights).pearson  # one "utterance" a speaker
