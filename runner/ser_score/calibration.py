"""Personalised label distribution calibration of one speaker, seed by seed (PLDC; Tran, Yin, Soleymani, 2023).

A speaker's predictions are moved to the mean and the spread of the labels of the most similar training speakers.
"""

from dataclasses import dataclass

import numpy as np

NO_VARIANCE = 1e-12  # of what is constant but for rounding
DIGITS = 9  # of cosines


@dataclass(frozen=True)
class Method:
    """A calibration as the study chose it; `points` are `k`, `alpha`, `max_similarity` by seed and target."""

    name: str
    shift: str
    neighbours: str
    similarity: str
    weighting: str
    statistics: str
    enrolment: int
    enrolment_labels: bool
    points: list[list[dict]]
    half_widths: np.ndarray  # (targets,), infinite where nothing can be promised


@dataclass(frozen=True)
class References:
    """The training speakers: `vectors` (seeds or 1, speakers, W), label means and deviations (speakers, targets)."""

    vectors: np.ndarray
    means: np.ndarray
    stds: np.ndarray
    counts: np.ndarray

    def of_seed(self, seed: int) -> np.ndarray:
        return self.vectors[seed if len(self.vectors) > 1 else 0]


@dataclass(frozen=True)
class Line:
    """What calibration does to a speaker's predictions of a seed, `slope * (y - mean) + new_mean`, (targets,) each."""

    slope: np.ndarray
    mean: np.ndarray
    new_mean: np.ndarray
    order: np.ndarray  # (speakers,) of the references, nearest first
    cosine: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Predictions (utterances, targets), calibrated, in the number format in which the workflow keeps them."""
        return (self.slope * (values - self.mean) + self.new_mean).astype(np.float32).astype(float)


def fit(
    method: Method,
    seed: int,
    references: References,
    vector: np.ndarray,
    own: tuple[np.ndarray, np.ndarray],
    kept: tuple[np.ndarray, np.ndarray],
) -> Line:
    """The line of a speaker.

    Args:
        seed: its place among the bundle's seeds
        vector: (W,) of the speaker
        own: mean and deviation of the speaker's predictions, (targets,) each
        kept: means and deviations of which a share alpha is kept; NaN where they are not known
    """
    order, cosine = rank(vector, references.of_seed(seed))
    weights = _weigh(cosine) if method.weighting == "similarity" else np.ones_like(cosine)
    slope, new_mean = np.ones(len(own[0])), np.array(own[0], float)
    for t, point in enumerate(method.points[seed]):
        near = order[: point["k"]]
        aims = _describe(method, weights[: point["k"]], near, references, t)
        mean, std = (_keep(point["alpha"] or 0.0, part[t], aim) for part, aim in zip(kept, aims, strict=True))
        limit = point["max_similarity"]
        if limit is not None and np.round(cosine[: point["k"]].mean(), DIGITS) > limit:
            continue
        constant = own[1][t] ** 2 <= NO_VARIANCE
        if method.shift != "mu" and not constant:
            slope[t] = std / own[1][t]
        if method.shift != "sigma":
            new_mean[t] = mean
    return Line(slope, np.asarray(own[0], float), new_mean, order, cosine)


def rank(vector: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The references, most similar first, and their cosines, (speakers,) each."""
    cosine = np.round(normalise(references) @ normalise(vector[None])[0], DIGITS)
    order = np.argsort(-cosine, kind="stable")
    return order, cosine[order]


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def describe(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population deviation of predictions (utterances, targets)."""
    return values.mean(axis=0), values.std(axis=0)


def estimate(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (n - 1) of few utterances, (utterances, targets); NaN for a deviation of one."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)


def average_seeds(runs: np.ndarray) -> np.ndarray:
    """The mean over seeds of one speaker's predictions, (utterances, targets), given back the spread that it takes.

    Stretched around the speaker's mean to the mean of the seeds' deviations, by the root of their number at most.

    Args:
        runs: (seeds, utterances, targets)
    """
    average = runs.mean(axis=0)
    own = average.std(axis=0)
    constant = np.square(own) <= NO_VARIANCE
    stretch = runs.std(axis=1).mean(axis=0) / np.where(constant, 1, own)
    stretch = np.where(constant, 1, np.minimum(stretch, np.sqrt(len(runs))))
    centre = average.mean(axis=0)
    return centre + stretch * (average - centre)


def _weigh(cosine: np.ndarray) -> np.ndarray:
    spread = cosine.std()
    return np.exp((cosine - cosine.mean()) / (spread if spread > 0 else 1))


def _describe(method: Method, weights: np.ndarray, near: np.ndarray, references: References, t: int):
    """The mean and the deviation of the labels of neighbours, for target t."""
    means, stds = references.means[near, t], references.stds[near, t]
    if method.statistics != "pooled":
        return weights @ means / weights.sum(), weights @ stds / weights.sum()
    weights = weights * references.counts[near]
    mean = weights @ means / weights.sum()
    square = weights @ (np.square(means) + np.square(stds)) / weights.sum()
    return mean, np.sqrt(max(square - mean**2, 0))


def _keep(share: float, own: float, aim: float) -> float:
    return aim if np.isnan(own) else share * own + (1 - share) * aim
