"""The concordance correlation coefficient (CCC): agreement in order, scale and location at once."""

import numpy as np

# Ratings are of the order of 1 and predictions are float32: a variance below this is rounding, not spread.
NO_VARIANCE = 1e-12


def compute_ccc(truth, prediction) -> float:
    r"""The CCC of two sequences of numbers, in [-1, 1]; 1 is perfect agreement.

    .. math:: \rho_c = \frac{2 \operatorname{cov}(y, p)}{\operatorname{var} y + \operatorname{var} p
              + (\bar y - \bar p)^2}

    with population moments (divided by n), after Lin, "A concordance correlation coefficient to evaluate
    reproducibility", Biometrics 45 (1989). Where either side is constant the covariance is 0 and so is the CCC;
    that includes two equal constants, for which the formula is 0 / 0.

    >>> compute_ccc([1, 2, 3], [1, 2, 3])
    1.0
    >>> compute_ccc([1, 2, 3], [2, 2, 2])
    0.0
    """
    truth, prediction = np.asarray(truth, float), np.asarray(prediction, float)
    if truth.shape != prediction.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(f"expected two equally long sequences, not shapes {truth.shape} and {prediction.shape}")
    covariance = np.mean((truth - truth.mean()) * (prediction - prediction.mean()))
    return float(ccc_from_moments(truth.mean(), prediction.mean(), truth.var(), prediction.var(), covariance))


def ccc_from_moments(mean_true, mean_pred, var_true, var_pred, covariance) -> np.ndarray:
    """The CCC from population moments, elementwise over arrays of any (broadcastable) shape."""
    denominator = var_true + var_pred + (mean_true - mean_pred) ** 2
    constant = (var_true <= NO_VARIANCE) | (var_pred <= NO_VARIANCE)
    return np.where(constant, 0.0, 2 * covariance / np.where(constant, 1.0, denominator))


def pearson_from_moments(var_true, var_pred, covariance) -> np.ndarray:
    """Pearson's correlation from population moments, elementwise; 0 where a side is constant."""
    constant = (var_true <= NO_VARIANCE) | (var_pred <= NO_VARIANCE)
    r = covariance / np.sqrt(np.where(constant, 1.0, var_true * var_pred))
    return np.where(constant, 0.0, np.clip(r, -1, 1))  # moments of a bootstrap draw are rounded
