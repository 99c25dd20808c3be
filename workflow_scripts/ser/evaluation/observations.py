"""What a calibration method sees of the speakers that it calibrates, and the straight line that it fits to each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ser.config.calibration_methods import DRAW, Method
from ser.evaluation.calibration_inputs import Evidence, References
from ser.statistics.moments import measure_speakers
from ser.statistics.pldc import average_neighbours, fit_line, keep_share, pool_neighbours, weigh_neighbours

DIGITS = 9  # of cosines, and so of their means


@dataclass(frozen=True)
class Observation:
    """What a method has of the speakers that it calibrates."""

    mean: np.ndarray  # (speakers, targets) of the predictions that the method may look at
    std: np.ndarray  # (speakers, targets)
    kept: tuple[np.ndarray, np.ndarray]  # means and deviations of which a share alpha is kept; NaN where not known
    vectors: np.ndarray  # (speakers, width)
    rows: np.ndarray  # (utterances,) rows of the predictions that are calibrated, and scored


@dataclass(frozen=True)
class Neighbours:
    """The references in the order in which a method takes them, for each speaker: (speakers, references)."""

    order: np.ndarray
    cosine: np.ndarray
    weights: np.ndarray

    def measure_similarity(self, k: int) -> np.ndarray:
        """The mean cosine of the first k, (speakers,)."""
        return np.round(self.cosine[:, :k].mean(axis=1), DIGITS)


def observe(evidence: Evidence, method: Method, draw: int = 0) -> Observation:
    """The statistics, vectors and rows of a method: of all utterances, or those that a draw enrols and the rest."""
    predictions = evidence.predictions
    speaker, n_speakers = predictions.speaker, len(predictions.speakers)
    if not method.enrolment:
        own = [measure_speakers(column, column, speaker, n_speakers) for column in predictions.values.T]
        mean, std = (
            np.stack(parts, axis=1) for parts in zip(*((m.mean_pred, m.var_pred**0.5) for m in own), strict=True)
        )
        return Observation(mean, std, (mean, std), evidence.vectors[method.similarity], np.arange(len(speaker)))
    enrolment = evidence.enrolment
    taken = np.flatnonzero(enrolment.ranks[draw] < method.enrolment)
    taken = taken[np.argsort(speaker[taken], kind="stable")]
    mean, std = estimate(predictions.values[taken], speaker[taken], n_speakers)
    std = np.nan_to_num(std)  # of one utterance: as of predictions without spread
    kept = mean, std
    if method.enrolment_labels:
        kept = estimate(enrolment.labels[draw, taken], speaker[taken], n_speakers)
    starts = np.searchsorted(speaker[taken], np.arange(n_speakers + 1))
    sums = np.add.reduceat(enrolment.vectors[taken].astype(float), starts[:-1])
    rows = np.flatnonzero(enrolment.ranks[draw] >= enrolment.held_out)
    return Observation(mean, std, kept, sums / np.diff(starts)[:, None], rows)


def estimate(values: np.ndarray, speaker: np.ndarray, n_speakers: int) -> tuple[np.ndarray, np.ndarray]:
    """Speakers' means and standard deviations (n - 1), from few of their utterances: (speakers, targets) each.

    Values that are NaN do not count; a mean of none, and a deviation of fewer than two, is NaN.
    """
    means, stds = [], []
    for column in values.T:
        known = ~np.isnan(column)
        own = measure_speakers(column[known], column[known], speaker[known], n_speakers)
        means.append(np.where(own.n > 0, own.mean_pred, np.nan))
        stds.append(np.where(own.n > 1, np.sqrt(own.var_pred * own.n / np.maximum(own.n - 1, 1)), np.nan))
    return np.stack(means, axis=1), np.stack(stds, axis=1)


def find_neighbours(method: Method, seen: Observation, references: References) -> Neighbours:
    """The references by similarity, with the weights that a method gives them."""
    order, cosine = references.rank(method.similarity, seen.vectors)
    weights = weigh_neighbours(cosine) if method.weighting == "similarity" else np.ones_like(cosine)
    return Neighbours(order, cosine, weights)


def observe_draws(
    method: Method, evidence: Evidence, references: References, random_draws: int, random_seed: int
) -> Iterator[tuple[str, Observation, Neighbours]]:
    """What a method sees by the name of the calibration: once, or for each draw of utterances or of neighbours."""
    if method.enrolment:
        for draw in range(len(evidence.enrolment.ranks)):
            seen = observe(evidence, method, draw)
            yield name_draw(method, draw), seen, find_neighbours(method, seen, references)
        return
    seen = observe(evidence, method)
    near = find_neighbours(method, seen, references)
    if method.neighbours != "random":
        yield method.name, seen, near
        return
    for draw in range(random_draws):  # the same for every ablation
        known = np.tile(np.arange(near.order.shape[1]), (len(near.order), 1))
        order = np.random.default_rng([random_seed, draw]).permuted(known, axis=1)
        yield name_draw(method, draw), seen, replace(near, order=order)


def name_draw(method: Method, draw: int) -> str:
    return f"{method.name}{DRAW}{draw:02d}"


def average_labels(method: Method, near: Neighbours, references: References, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the spread of the labels of the first k neighbours, (speakers, targets) each."""
    means, stds = np.split(references.statistics, 2, axis=1)
    if method.statistics == "pooled":
        return pool_neighbours(near.order, near.weights, references.counts, means, stds, k)
    mean, std = np.split(average_neighbours(near.order, near.weights, references.statistics, [k])[:, 0], 2, axis=1)
    return mean, std


def fit_speakers(
    method: Method, point: dict, seen: Observation, near: Neighbours, labels: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Each speaker's slope and new mean (`fit_line`), (speakers, targets) each.

    Args:
        point: `k`, `alpha` and `max_similarity`, of which the last two may be None
        labels: what `average_labels` gives for that k
    """
    mean, std = (keep_share(point["alpha"] or 0.0, own, aim) for own, aim in zip(seen.kept, labels, strict=True))
    slope, new_mean = fit_line(method.shift, seen.mean, seen.std, mean, std)
    if point["max_similarity"] is None:
        return slope, new_mean
    moved = (near.measure_similarity(point["k"]) <= point["max_similarity"])[:, None]
    return np.where(moved, slope, 1.0), np.where(moved, new_mean, seen.mean)
