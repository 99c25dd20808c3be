"""p values of many comparisons, adjusted so that a family of them says what it promises."""

import numpy as np


def adjust_holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p (Scandinavian Journal of Statistics 6, 1979): below a, the family-wise error is at most a.

    It holds whatever the dependence: rows of one table share speakers and a baseline.

    >>> adjust_holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    order, n = np.argsort(p, kind="stable"), len(p)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(1, np.maximum.accumulate((n - np.arange(n)) * p[order]))
    return adjusted
