"""The shift of each test speaker against the training set, and what it has to do with performance.

As in the paper a shift is the Kullback-Leibler divergence of a speaker's distribution from that of the
whole training set. Both are taken as Gaussian, the features' with a diagonal covariance: KL then has a closed form,
there is no bin width to choose, and mean and spread are just what PLDC moves.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ser.evaluation.calibration_inputs import stack_vectors
from ser.evaluation.shift_plot import plot_shifts
from ser.formats.csv_files import read_table, write_csv
from ser.formats.parquet import read_parquet
from ser.formats.utterances import read_labels
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
]
SPEAKER_TEXTS = ("speaker_id", "ablation", "calibration", "target", "split")  # of the speaker table
PAIRS = [
    ("feature_shift", "ccc"),
    ("label_shift", "ccc"),
    ("feature_shift", "label_shift"),
    ("feature_shift", "gain"),
    ("label_shift", "gain"),
]
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

        A speaker with one utterance, or without any spread, has no distribution to speak of and is left out.
        """
        if not self.speakers:
            return {}
        varied = variance > NO_VARIANCE
        ratio = np.maximum(self.variance[:, varied] / variance[varied], VARIANCE_FLOOR)
        distance = (self.mean[:, varied] - mean[varied]) ** 2 / variance[varied]
        kl = 0.5 * np.sum(ratio + distance - 1 - np.log(ratio), axis=1)
        known = (self.n > 1) & (self.variance > NO_VARIANCE).any(axis=1)
        return {self.speakers[s]: float(kl[s]) for s in np.flatnonzero(known)}


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
            pairs = [(row[x], row[y]) for row in members if row[x] is not None and row[y] is not None]
            found.append(dict(zip(CORRELATION_COLUMNS, (*key, x, y), strict=False)) | correlate(pairs, **bootstrap))
    return found


def correlate(pairs: list[tuple[float, float]], draws: int, seed: int) -> dict:
    """Pearson's r over speakers with its interval; nothing for fewer than 3 speakers or where a side is constant."""
    n = len(pairs)
    if n < 3 or any(np.var(side) <= NO_VARIANCE for side in zip(*pairs, strict=True)):
        return {"n_speakers": n}
    x, y = np.array(pairs).T
    zero = np.zeros(n)
    speakers = Moments(np.ones(n), x, y, zero, zero, zero)  # one "utterance" a speaker
    interval = find_interval(speakers.pool(draw_speakers(n, draws, seed)).pearson, n)
    return {"n_speakers": n, "r": float(speakers.pool().pearson)} | dict(
        zip(("r_low", "r_high"), interval or (), strict=False)
    )
