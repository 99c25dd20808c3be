"""Personalised label distribution calibration (PLDC; Tran, Yin, Soleymani, Interspeech 2023).

A speaker's predictions are moved to the label mean and spread that similar training speakers have. No label of the
speaker is needed; the arrays here are (speakers, ...) for those to calibrate and (references, ...) for the training
speakers they are compared with.
"""

import numpy as np

from ser.statistics.ccc import NO_VARIANCE


def weigh_neighbours(cosine: np.ndarray) -> np.ndarray:
    """Weights that grow with the similarity, from sorted cosines (speakers, references).

    The cosines of mean-pooled features are all near 1, so weights of the cosine itself would be uniform. They are
    standardised over each speaker's references first, then exponentiated.
    """
    spread = cosine.std(axis=1, keepdims=True)
    return np.exp((cosine - cosine.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1))


def average_neighbours(order: np.ndarray, weights: np.ndarray, statistics: np.ndarray, k: list[int]) -> np.ndarray:
    """The (weighted) mean of the first k references' statistics, for several k at once.

    Args:
        order, weights: (speakers, references), most similar first
        statistics: (references, values)
        k: numbers of neighbours; one larger than the number of references means all of them

    Returns:
        (speakers, len(k), values)
    """
    last = np.minimum(k, order.shape[1]) - 1
    order, weights = order[:, : last.max() + 1], weights[:, : last.max() + 1, None]
    totals = np.cumsum(weights * statistics[order], axis=1)  # (speakers, references, values)
    return totals[:, last] / np.cumsum(weights, axis=1)[:, last]


def pool_neighbours(
    order: np.ndarray, weights: np.ndarray, counts: np.ndarray, means: np.ndarray, stds: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation of the first k references' labels, pooled: (speakers, targets) each.

    A reference counts with each of its labels. The deviation holds the spread between speakers too, and so is larger
    than the mean of the references' own.

    Args:
        order, weights: (speakers, references), most similar first
        counts: (references,) numbers of labels
        means, stds: (references, targets), population
    """
    squares = np.concatenate([means, np.square(means) + np.square(stds)], axis=1)
    mean, square = np.split(average_neighbours(order, weights * counts[order], squares, [k])[:, 0], 2, axis=1)
    return mean, np.sqrt(np.maximum(square - np.square(mean), 0))


def keep_share(share: float, own: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A target that a share of the speaker's own statistics is kept in; where these are not known (NaN), the target."""
    return np.where(np.isnan(own), target, share * own + (1 - share) * target)


def fit_line(shift: str, mean, std, target_mean, target_std) -> tuple[np.ndarray, np.ndarray]:
    """The slope and the new mean that calibrate predictions y: `slope * (y - mean) + new mean`.

    With `shift` mu_sigma this is (y - mu) / sigma * target_sigma + target_mu, with sigma the mean stays the
    speaker's own, and with mu the spread does. Predictions without spread (sigma = 0) keep their slope of 1.

    Args:
        mean, std: of the speaker's own predictions; these and the targets broadcast
    """
    constant = np.square(std) <= NO_VARIANCE
    slope = np.where(constant, 1.0, target_std / np.where(constant, 1.0, std))
    keep_mean, keep_spread = shift == "sigma", shift == "mu"
    new_mean = mean + 0 * target_mean if keep_mean else target_mean
    return (np.ones_like(slope) if keep_spread else slope), new_mean
