r"""Intervals of CCCs and of their differences: over new speakers and new training seeds.

What is estimated. Speakers are a sample of the speakers that a model may meet, seeds a sample of the training runs
that an ablation may have. A row's figure estimates the CCC that is expected of a new training run of this ablation on
new speakers; a delta estimates the difference of two such expectations. O-CCC's is that of the pooled population.

How. A metric is a mean over speakers and seeds of values v (seeds, speakers): for A-CCC the CCCs themselves, for
O-CCC its jackknife pseudo-values (Efron and Stein 1981; Tukey 1958). Both are crossed samples, v = mean + speaker +
seed + speaker x seed, and the error of the mean has two parts (Searle, Casella and McCulloch, "Variance components",
1992, section 4.2; Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007; the same subtraction as in
Cameron, Gelbach and Miller, "Robust inference with multiway clustering", JBES 29, 2011):

.. math:: V = V_S + \max(0, V_R - V_I)

V_S, the variance over speakers of the mean over seeds / speakers, already holds the interaction; so does V_R, the
variance over seeds / seeds; V_I is the interaction alone, which must not be counted twice. Two independently trained
arms on the same speakers: V_S of the differences by speaker, V_R and V_I summed over arms. Pairs with the same seeds
(a calibration and its own ablation): the differences are one arm.

The two parts have very different degrees of freedom (speakers - 1; a few seeds), so each keeps its own t quantile and
the half-widths are squared and added, as for any sum of independent errors (Zou and Donner, "Construction of
confidence limits about effect measures", Statistics in Medicine 27, 2008; "MOVER"):

.. math:: h_\alpha^2 = t_{\alpha, S - 1}^2 V_S + t_{\alpha, \nu}^2 \max(0, V_R - V_I)

with Welch's degrees of freedom nu over the arms' V_R (k - 1 for one arm). No draws: a row takes microseconds.
benchmarks/interval_coverage.py says how often these intervals miss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

MIN_SPEAKERS = 6  # with fewer, V_S is too uncertain for "95 %" to be said: no interval
NOTHING = 1e-6  # a difference below float32's rounding is none


@dataclass(frozen=True)
class Estimate:
    """A metric, or a difference of two, with the two parts of its error."""

    value: float
    n_speakers: int  # the smaller group's, where groups are compared
    speaker_variance: float  # V_S
    speaker_df: float
    seed_variance: float  # max(0, V_R - V_I); 0 where seeds_known is False
    seed_df: float  # inf where no seed adds anything
    seeds_known: bool  # False: an arm has one seed, and the interval is that of the trained models at hand, not of
    # the ablations: how far another training run would fall from them is not in it
    paired: bool = True  # one arm: no other training run stands on the other side

    @property
    def standard_error(self) -> float:
        return float(np.sqrt(self.speaker_variance + self.seed_variance))

    @property
    def enough(self) -> bool:
        """Whether an interval may be printed."""
        return self.n_speakers >= MIN_SPEAKERS

    def reach(self, tail: float) -> float:
        """The distance beyond which the error lies with probability `tail` on one side (tail <= .5)."""
        speakers = stdtrit(self.speaker_df, tail) ** 2 * self.speaker_variance
        seeds = stdtrit(min(self.seed_df, 1e9), tail) ** 2 * self.seed_variance
        return float(np.sqrt(speakers + seeds))

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """The two-sided interval; None with too few speakers."""
        reach = self.reach((1 - level) / 2)
        return (self.value - reach, self.value + reach) if self.enough else None

    @property
    def p_value(self) -> float | None:
        """The two-sided p of no difference: below a if and only if the interval at 1 - a leaves 0 out."""
        size = abs(self.value)
        if not self.enough:
            return None
        if size <= NOTHING or self.standard_error == 0:
            return float(size <= NOTHING)
        # A single t bounds the root: with the larger df p is smaller, with the smaller df larger.
        ends = [2 * stdtr(min(df, 1e9), -size / self.standard_error) for df in (self.speaker_df, self.seed_df)]
        low, high = max(min(ends), 1e-300), max(*ends, 1e-300)
        if self.seed_variance == 0 or high <= low * (1 + 1e-9):
            return float(ends[0])
        root = brentq(lambda log: self.reach(np.exp(log) / 2) - size, np.log(low) - 1e-6, np.log(high) + 1e-6)
        return float(np.exp(root))

    def detectable(self, power: float = 0.8, level: float = 0.95) -> float | None:
        """The true difference that an interval with this error would leave 0 out for, with the given probability.

        The usual (t_{.975} + t_{.8}) x standard error (Bloom, "Minimum detectable effects", Evaluation Review 19,
        1995), each part with its own df. A fact of the design, not of the difference found.
        """
        return self.reach((1 - level) / 2) + self.reach(1 - power) if self.enough else None

    def bound(self, confidence: float = 0.95) -> float | None:
        """The X of "no difference larger than X", at 95 % confidence.

        Two one-sided tests at 5 % (Schuirmann 1987) accept "within +-X" where the 90 % interval lies within +-X; the
        smallest such X is the larger end of that interval, and a 95 % upper confidence limit of the size of the
        difference.
        """
        reach = self.reach(1 - confidence)
        return max(abs(self.value - reach), abs(self.value + reach)) if self.enough else None


def estimate(values: np.ndarray, value: float | None = None) -> Estimate:
    """One arm: a row's own metric, or differences of predictions that share speakers and seeds.

    Args:
        values: (seeds, speakers), of the counted speakers; (speakers,) where no training seed has any say
        value: the metric itself where it is not the mean of `values` (O-CCC)
    """
    return compare([values], value)


def estimate_difference(values: np.ndarray, reference: np.ndarray, value: float | None = None) -> Estimate:
    """Two arms on the same speakers, trained independently: values (seeds, speakers), reference (its seeds, speakers).

    The same seed number in both arms does not make a pair: another ablation draws other weights with it.
    """
    return compare([values, reference], value)


def estimate_gap(values: np.ndarray, others: np.ndarray, value: float | None = None) -> Estimate:
    """Two groups of speakers under the same seeds: values (seeds, speakers), others (seeds, other speakers)."""
    groups = [np.atleast_2d(group) for group in (values, others)]
    gaps, k = groups[0].mean(axis=1) - groups[1].mean(axis=1), len(groups[0])
    variances = [vary(group.mean(axis=0)) for group in groups]
    seeds = vary(gaps) - sum(measure_interaction(group) for group in groups) if k > 1 else 0.0
    known = k > 1 or np.ndim(values) == 1
    return Estimate(
        float(gaps.mean()) if value is None else float(value),
        min(group.shape[1] for group in groups),
        sum(variances),
        join_df(variances, [group.shape[1] - 1 for group in groups]),
        max(0.0, seeds),
        max(k - 1, 1) if known else np.inf,
        known,
    )


def compare(arms: Sequence[np.ndarray], value: float | None) -> Estimate:
    """The estimate of one arm, or of the first minus the second."""
    trained = [np.ndim(arm) == 2 for arm in arms]
    arms = [np.atleast_2d(arm) for arm in arms]
    by_speaker = arms[0].mean(axis=0) - (arms[1].mean(axis=0) if len(arms) > 1 else 0)
    n = len(by_speaker)
    several = [arm for arm in arms if len(arm) > 1]
    seeds = [vary(arm.mean(axis=1)) for arm in several]
    net = max(0.0, sum(seeds) - sum(measure_interaction(arm) for arm in several))
    known = all(len(arm) > 1 or not by_seed for arm, by_seed in zip(arms, trained, strict=True))
    return Estimate(
        float(by_speaker.mean()) if value is None else float(value),
        n,
        vary(by_speaker),
        max(n - 1, 1),
        net if known else 0.0,
        join_df(seeds, [len(arm) - 1 for arm in several]) if known else np.inf,
        known,
        len(arms) == 1,
    )


def vary(values: np.ndarray) -> float:
    """The estimated variance of the mean of a sample (x,)."""
    return float(np.var(values, ddof=1) / len(values)) if len(values) > 1 else 0.0


def measure_interaction(values: np.ndarray) -> float:
    """V_I: the part of the mean's variance that is speaker x seed (seeds, speakers): residual mean square / size."""
    k, n = values.shape
    if k < 2 or n < 2:
        return 0.0
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float(np.sum(rest**2) / ((k - 1) * (n - 1)) / (k * n))


def join_df(variances: Sequence[float], dfs: Sequence[float]) -> float:
    """Welch's degrees of freedom of a sum of variances (Satterthwaite 1946)."""
    weight = sum(v**2 / df for v, df in zip(variances, dfs, strict=True) if df > 0)
    return sum(variances) ** 2 / weight if weight > 0 else np.inf


def find_seed_sd(metric_by_seed: np.ndarray) -> float | None:
    """`a_ccc_seed_sd`, `o_ccc_seed_sd`: the SD over seeds (seeds,) of the metric on these speakers; None for one."""
    return float(np.std(metric_by_seed, ddof=1)) if len(metric_by_seed) > 1 else None
