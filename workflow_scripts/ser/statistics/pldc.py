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


def fit_line(shift: str, mean, std, target_mean, target_std, alpha=0.0) -> tuple[np.ndarray, np.ndarray]:
    """The slope and the new mean that calibrate predictions y: `slope * (y - mean) + new mean`.

    With `shift` mu_sigma this is (y - mu) / sigma * target_sigma + target_mu, with sigma the mean stays the
    speaker's own, and with mu the spread does. A share `alpha` of the targets is the speaker's own statistics:
    1 changes nothing, 0 is the paper's PLDC. Predictions without spread (sigma = 0) keep their slope of 1.

    Args:
        mean, std: of the speaker's own predictions; these and the targets broadcast
    """
    target_mean = alpha * mean + (1 - alpha) * target_mean
    target_std = alpha * std + (1 - alpha) * target_std
    constant = np.square(std) <= NO_VARIANCE
    slope = np.where(constant, 1.0, target_std / np.where(constant, 1.0, std))
    keep_mean, keep_spread = shift == "sigma", shift == "mu"
    new_mean = mean + 0 * target_mean if keep_mean else target_mean
    return (np.ones_like(slope) if keep_spread else slope), new_mean
