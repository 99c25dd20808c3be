"""How far predictions for speakers whom training never heard are off: intervals by hierarchical conformal prediction.

Lee, Barber and Willett, "Distribution-free inference with hierarchical data" (2023): if validation speakers and a new
one are alike (exchangeable), an interval of the prediction plus or minus this half-width holds the label of a new
speaker's utterance with at least the asked probability, whatever the model and the distribution of its errors.
"""

import numpy as np


def measure_half_width(residuals: np.ndarray, speaker: np.ndarray, coverage: float) -> float:
    """The half-width that covers a share of a new speaker's labels.

    Each of S speakers has the weight 1 / (S + 1), divided among their utterances; the rest is for the new speaker, of
    whom nothing is known: with fewer than coverage / (1 - coverage) speakers the half-width is infinite.

    Args:
        residuals: (utterances,) absolute errors
        speaker: (utterances,) whose they are, any integers
    """
    _, number, count = np.unique(speaker, return_inverse=True, return_counts=True)
    order = np.argsort(residuals, kind="stable")
    share = np.cumsum(1 / (count[number[order]] * (len(count) + 1)))
    first = int(np.searchsorted(share, coverage - 1e-9))  # sums of fractions: 4 / 5 is not always 0.8
    return float(residuals[order[first]]) if first < len(order) else np.inf
