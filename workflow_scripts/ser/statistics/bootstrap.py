"""The bootstrap over speakers: speakers are drawn with replacement, and all their utterances with them.

Utterances of one speaker resemble each other, so drawing utterances would give intervals that are too narrow
(the cluster bootstrap; Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8).
"""

import numpy as np
from scipy.special import ndtr, stdtrit

from ser.statistics.intervals import MIN_SPEAKERS


def draw_speakers(n_speakers: int, draws: int, seed: int) -> np.ndarray:
    """How often each speaker comes in each draw: float (draws, n_speakers), rows summing to n_speakers.

    Statistics of the same draws are paired.
    """
    counts = np.random.default_rng(seed).multinomial(n_speakers, np.full(n_speakers, 1 / n_speakers), size=draws)
    return counts.astype(float)


def find_interval(draws: np.ndarray, n_speakers: int, level: float = 0.95) -> tuple[float, float] | None:
    """The expanded percentile interval of a statistic from its bootstrap draws (draws,).

    A plain percentile interval is too narrow by sqrt((n - 1) / n) and by normal in place of t quantiles; with the
    percentiles moved out accordingly it covers what it says (Hesterberg, "What teachers should know about the
    bootstrap", The American Statistician 69, 2015). Draws where the statistic does not exist (NaN) are
    left out. None with fewer than `MIN_SPEAKERS`: 95 % of draws of 5 speakers cover 90 %, of 2 speakers 53 %.
    """
    draws = draws[np.isfinite(draws)]
    if n_speakers < MIN_SPEAKERS or not len(draws):
        return None
    tail = ndtr(np.sqrt(n_speakers / (n_speakers - 1)) * stdtrit(n_speakers - 1, (1 - level) / 2))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)
