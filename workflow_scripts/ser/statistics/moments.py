"""Moments of labels and predictions per speaker: all that CCC, Pearson, RMSE and their bootstrap need.

A speaker's utterances enter every metric of this project through six numbers. Drawing speakers, changing predictions
by a speaker's own straight line (which is what PLDC does) and pooling all speakers need no utterance again.
"""

from dataclasses import dataclass

import numpy as np

from ser.statistics.ccc import NO_VARIANCE, ccc_from_moments, pearson_from_moments


@dataclass(frozen=True)
class Moments:
    """Population moments (divided by n) of groups of utterances; every array broadcasts to (..., groups)."""

    n: np.ndarray  # number of utterances; a group of 0 has moments of 0
    mean_true: np.ndarray
    mean_pred: np.ndarray
    var_true: np.ndarray
    var_pred: np.ndarray
    covariance: np.ndarray

    @property
    def ccc(self) -> np.ndarray:
        """The CCC within each group."""
        return ccc_from_moments(self.mean_true, self.mean_pred, self.var_true, self.var_pred, self.covariance)

    @property
    def pearson(self) -> np.ndarray:
        """Pearson's correlation within each group."""
        return pearson_from_moments(self.var_true, self.var_pred, self.covariance)

    @property
    def rmse(self) -> np.ndarray:
        """The root mean squared error within each group."""
        squared = self.var_true + self.var_pred - 2 * self.covariance + (self.mean_true - self.mean_pred) ** 2
        return np.sqrt(np.maximum(squared, 0))  # rounding can make a perfect prediction's error negative

    def take(self, groups: np.ndarray) -> "Moments":
        """The moments of some of the groups."""
        return Moments(*(values[..., groups] for values in vars(self).values()))

    def transform(self, slope, mean_pred) -> "Moments":
        """The moments after each group's predictions p became `slope * (p - mean of p) + mean_pred`."""
        return Moments(
            self.n, self.mean_true, mean_pred, self.var_true, slope**2 * self.var_pred, slope * self.covariance
        )

    def pool(self, weights: np.ndarray | None = None) -> "Moments":
        """The moments of all groups' utterances together, the groups repeated by `weights`.

        `weights` is (draws, groups) and the result's arrays are (..., draws); without weights they are (...).
        A draw without any utterance has NaN moments.
        """
        each = np.ones((1, len(self.n))) if weights is None else weights
        # Deviations from a centre near the data keep the differences below from cancelling.
        centre = np.mean(np.sum(self.n * self.mean_true, axis=-1)) / max(np.sum(self.n), 1)
        true, pred = self.mean_true - centre, self.mean_pred - centre
        squares = self.var_true + true**2, self.var_pred + pred**2, self.covariance + true * pred
        parts = np.stack(np.broadcast_arrays(np.ones_like(true), true, pred, *squares))  # (6, ..., groups)
        n, *sums = (self.n * parts) @ each.T  # (..., draws) each
        with np.errstate(invalid="ignore", divide="ignore"):
            true, pred, true_2, pred_2, both = (total / n for total in sums)
        pooled = n, centre + true, centre + pred, true_2 - true**2, pred_2 - pred**2, both - true * pred
        return Moments(*pooled) if weights is not None else Moments(*(values[..., 0] for values in pooled))


def measure_speakers(truth, prediction, speaker, n_speakers: int) -> Moments:
    """Moments per speaker: `truth` and `prediction` (utterances,), `speaker` their speakers' numbers (utterances,)."""
    truth, prediction = np.asarray(truth, float), np.asarray(prediction, float)
    n = np.bincount(speaker, minlength=n_speakers)

    def average(values):
        return np.bincount(speaker, weights=values, minlength=n_speakers) / np.maximum(n, 1)

    mean_true, mean_pred = average(truth), average(prediction)
    true, pred = truth - mean_true[speaker], prediction - mean_pred[speaker]  # two passes: exact for constants
    return Moments(n, mean_true, mean_pred, average(true**2), average(pred**2), average(true * pred))


def stack(moments: list[Moments], of_same_utterances: bool = True) -> Moments:
    """Several runs' moments as one: predictions' arrays (runs, groups), labels' (groups,).

    Runs of other utterances, but as many of each group, have labels of their own: their arrays are (runs, groups) too.
    """
    first = moments[0]
    return Moments(
        first.n,
        first.mean_true if of_same_utterances else np.stack([m.mean_true for m in moments]),
        np.stack([m.mean_pred for m in moments]),
        first.var_true if of_same_utterances else np.stack([m.var_true for m in moments]),
        np.stack([m.var_pred for m in moments]),
        np.stack([m.covariance for m in moments]),
    )


@dataclass(frozen=True)
class Policy:
    """Which speakers an A-CCC is the mean of (config: evaluation).

    The paper's A-CCC is the mean over all speakers. Here a speaker counts whose CCC says something of the predictions:
    with `min_utterances`, because the CCC of few utterances is low for the same predictions (a mean of .27 for 2, .44
    for 5, .57 for 100), and with labels that are not all the same, in each draw of enrolment (with those it is 0 for
    any prediction; `constant_labels: zero` counts the 0).
    """

    min_utterances: int = 2
    constant_labels: str = "omit"

    def count(self, moments: Moments) -> np.ndarray:
        """Which groups (groups,) count."""
        varied = np.atleast_2d(moments.var_true > NO_VARIANCE).all(axis=0) | (self.constant_labels == "zero")
        return (moments.n >= max(self.min_utterances, 1)) & varied
