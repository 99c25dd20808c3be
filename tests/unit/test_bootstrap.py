"""The bootstrap over speakers against plain loops, and its coverage in a simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from ser.evaluation.cells import Cell
from ser.evaluation.scoring import score_cell
from ser.statistics.bootstrap import average_speakers, draw_speakers, find_interval
from ser.statistics.ccc import compute_ccc
from ser.statistics.moments import Moments, Policy, measure_speakers, stack

POLICY = Policy()


def make_speakers(rng, n_speakers, utterances, runs=1):
    """Labels, predictions (runs, utterances) and speakers whose predictions are of different worth."""
    speaker = np.repeat(np.arange(n_speakers), utterances)
    worth = rng.uniform(0, 1, n_speakers)[speaker]
    truth = 4 + rng.normal(size=n_speakers)[speaker] * 0.5 + rng.normal(size=len(speaker))
    noise = rng.normal(size=(runs, len(speaker)))
    return truth, 4 + worth * (truth - 4) + 0.7 * noise, speaker


def make_cell(seed, n_speakers=8, utterances=6):
    rng = np.random.default_rng(seed)
    truth, first, speaker = make_speakers(rng, n_speakers, utterances, 2)
    second = first + 0.3 * rng.normal(size=first.shape) + 0.1
    moments, reference = (
        stack([measure_speakers(truth, run, speaker, n_speakers) for run in runs]) for runs in (first, second)
    )
    return Cell("a", "none", 0, moments, reference), truth, first, second, speaker


def test_draws_are_seeded_and_whole():
    weights = draw_speakers(7, 300, 3)
    assert weights.shape == (300, 7)
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(weights, draw_speakers(7, 300, 3))
    assert (weights != draw_speakers(7, 300, 4)).any()
    # each speaker comes once a draw on average; its count has variance 6/7, the mean of 300 a deviation of 0.053
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=4 * 0.054)


def test_against_a_loop_over_drawn_speakers():
    """Seeds averaged, utterances of drawn speakers concatenated: metric by metric, draw by draw."""
    cell, truth, first, second, speaker = make_cell(0)
    weights = draw_speakers(8, 40, 1)
    o_draws, a_draws, deltas = [], [], []
    for row in weights.astype(int):
        utterances = np.concatenate([np.flatnonzero(speaker == s) for s in np.repeat(np.arange(8), row)])
        drawn = np.repeat(np.arange(8), row)
        o_draws.append(np.mean([compute_ccc(truth[utterances], run[utterances]) for run in first]))
        means = [
            np.mean([[compute_ccc(truth[speaker == s], run[speaker == s]) for s in drawn] for run in runs])
            for runs in (first, second)
        ]
        a_draws.append(means[0])
        deltas.append(means[0] - means[1])
    row = score_cell(cell, weights, POLICY)
    for name, draws in {"o_ccc": o_draws, "a_ccc": a_draws, "delta_a_ccc": deltas}.items():
        low, high = find_interval(np.array(draws), 8)
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((low, high), abs=1e-9)
    assert row["o_ccc"] == pytest.approx(np.mean([compute_ccc(truth, run) for run in first]), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(3, 20))
@settings(max_examples=30)
def test_one_utterance_a_speaker_is_the_plain_bootstrap(seed, n):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.normal(size=(2, n))
    weights = draw_speakers(n, 20, seed)
    pooled = measure_speakers(truth, prediction, np.arange(n), n).pool(weights)
    for draw, counts in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(n), counts)
        assert pooled.ccc[draw] == pytest.approx(compute_ccc(truth[drawn], prediction[drawn]), abs=1e-9)
        assert pooled.mean_pred[draw] == pytest.approx(prediction[drawn].mean(), abs=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 8))
@settings(max_examples=60, deadline=None)
def test_intervals_contain_the_estimate(seed, n_speakers, utterances):
    cell, *_ = make_cell(seed, n_speakers, utterances)
    row = score_cell(cell, draw_speakers(n_speakers, 500, 1), POLICY)
    for metric in ("o_ccc", "a_ccc", "delta_o_ccc", "delta_a_ccc"):
        assert row[f"{metric}_low"] - 1e-9 <= row[metric] <= row[f"{metric}_high"] + 1e-9


def test_percentiles_are_moved_out():
    """Hesterberg's levels, by scipy's full distributions: Phi(-sqrt(n / (n - 1)) t(.975, n - 1))."""
    draws = np.random.default_rng(1).normal(size=5000)
    for n in (2, 10, 50):
        tail = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
        assert find_interval(draws, n) == pytest.approx(tuple(np.quantile(draws, [tail, 1 - tail])))
    assert find_interval(draws, 10**9) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=1e-6)


def test_no_interval_for_one_speaker_and_undefined_draws_left_out():
    assert find_interval(np.zeros(100), 1) is None
    assert find_interval(np.full(100, np.nan), 5) is None
    low, high = find_interval(np.array([1.0, 2.0, np.nan, 3.0]), 2)
    assert (low, high) == pytest.approx((1, 3))  # two speakers: the whole range
    counted = np.array([True, False])
    averages = average_speakers(np.array([3.0, 100.0]), counted, np.array([[1.0, 1.0], [0.0, 2.0], [2.0, 0.0]]))
    np.testing.assert_array_equal(averages, [3, np.nan, 3])


def simulate_coverage(simulations, n_speakers=50, utterances=12, draws=1000):
    """The share of simulations whose interval holds the population's figure, for A-CCC, its delta and O-CCC."""
    rng = np.random.default_rng(2026)
    population, *_ = _simulate(rng, 40_000, utterances)
    everyone = score_cell(population, np.ones((2, 40_000)), POLICY)
    metrics = ("a_ccc", "delta_a_ccc", "o_ccc")
    held = dict.fromkeys(metrics, 0)
    for number in range(simulations):
        cell = _simulate(rng, n_speakers, utterances)[0]
        row = score_cell(cell, draw_speakers(n_speakers, draws, number), POLICY)
        for metric in metrics:
            held[metric] += row[f"{metric}_low"] <= everyone[metric] <= row[f"{metric}_high"]
    return {metric: count / simulations for metric, count in held.items()}


def _simulate(rng, n_speakers, utterances):
    truth, prediction, speaker = make_speakers(rng, n_speakers, utterances)
    other = prediction + 0.4 * rng.normal(size=prediction.shape)
    moments = [stack([measure_speakers(truth, p[0], speaker, n_speakers)]) for p in (prediction, other)]
    return Cell("a", "none", 0, *moments), truth


def test_coverage():
    """95 % intervals hold the truth in 93 to 97 % of 500 samples of 50 speakers (binomial deviation: 1 %)."""
    coverage = simulate_coverage(500)
    assert 0.93 <= coverage["a_ccc"] <= 0.97
    assert 0.93 <= coverage["delta_a_ccc"] <= 0.97
    assert 0.93 <= coverage["o_ccc"] <= 0.97


def test_pooling_an_empty_draw_is_undefined_not_wrong():
    moments = Moments(np.array([0, 2]), *np.array([[0.0, 1.0]] * 5))
    assert np.isnan(moments.pool(np.array([[2.0, 0.0]])).ccc).all()
