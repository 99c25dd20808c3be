"""What a metric is a mean of: its values by training seed and speaker, from the moments of runs."""

import numpy as np

from ser.statistics.ccc import ccc_from_moments
from ser.statistics.moments import Moments


def value_a_ccc(moments: Moments, counted: np.ndarray, n_seeds: int) -> np.ndarray:
    """A-CCC's values, the CCCs of the counted speakers: (seeds, speakers), or (speakers,) where no seed has a say."""
    return average_draws(moments.ccc[..., counted], n_seeds)


def value_o_ccc(moments: Moments, n_seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """O-CCC by seed, (seeds,) or (), and its jackknife pseudo-values, (seeds, speakers) or (speakers,).

    Of the speakers with utterances: n O - (n - 1) O without the speaker (Tukey 1958). With speakers of unequal size the
    jackknife is on the safe side where the influence function is not (MacKinnon, Nielsen and Webb, "Fast and reliable
    jackknife and bootstrap methods for cluster-robust inference", Journal of Applied Econometrics 38, 2023). Their mean
    is O-CCC with its bias of few speakers taken off; the table keeps O-CCC itself as its figure.
    """
    present = moments.n > 0
    true, pred = moments.mean_true, moments.mean_pred
    centre = np.mean(np.sum(moments.n * true, axis=-1)) / np.sum(
        moments.n
    )  # keeps the differences below from cancelling
    true, pred = true - centre, pred - centre
    squares = moments.var_true + true**2, moments.var_pred + pred**2, moments.covariance + true * pred
    parts = np.stack(np.broadcast_arrays(np.ones_like(true), true, pred, *squares))[..., present]
    sums = moments.n[present] * parts  # (6, ..., speakers)
    whole, size = sums.sum(axis=-1, keepdims=True), present.sum()
    o_ccc, without = _find_ccc(whole), _find_ccc(whole - sums)
    return average_draws(o_ccc, n_seeds)[..., 0], average_draws(size * o_ccc - (size - 1) * without, n_seeds)


def average_draws(values: np.ndarray, n_seeds: int) -> np.ndarray:
    """Runs that are seeds x random draws, seed by seed, averaged over draws: (runs, x) -> (seeds, x); (x,) stays.

    Every speaker's random neighbours are drawn by themselves, so what a finite number of draws leaves is between
    speakers, and is counted there.
    """
    return values.reshape(n_seeds, -1, values.shape[-1]).mean(axis=1) if values.ndim > 1 else values


def _find_ccc(sums: np.ndarray) -> np.ndarray:
    """The CCC from sums (6, ...) of 1, y, p, yy, pp, yp; of nothing it is 0."""
    true, pred, true_2, pred_2, both = sums[1:] / np.where(sums[0] > 0, sums[0], 1)
    return ccc_from_moments(true, pred, true_2 - true**2, pred_2 - pred**2, both - true * pred)
