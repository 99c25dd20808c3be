"""The bootstrap over speakers, against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from ser.statistics.bootstrap import draw_speakers, find_interval
from ser.statistics.ccc import compute_ccc
from ser.statistics.moments import Moments, measure_speakers


def test_draws_are_seeded_and_whole():
    weights = draw_speakers(7, 300, 3)
    assert weights.shape == (300, 7)
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(weights, draw_speakers(7, 300, 3))
    assert (weights != draw_speakers(7, 300, 4)).any()
    # each speaker comes once a draw on average; its count has variance 6/7, the mean of 300 a deviation of 0.053
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=4 * 0.054)


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


def test_percentiles_are_moved_out():
    """Hesterberg's levels, by scipy's full distributions: Phi(-sqrt(n / (n - 1)) t(.975, n - 1))."""
    draws = np.random.default_rng(1).normal(size=5000)
    for n in (6, 10, 50):
        tail = norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
        assert find_interval(draws, n) == pytest.approx(tuple(np.quantile(draws, [tail, 1 - tail])))
    assert find_interval(draws, 10**9) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=1e-6)


def test_no_interval_for_few_speakers_and_undefined_draws_left_out():
    assert find_interval(np.zeros(100), 5) is None
    assert find_interval(np.full(100, np.nan), 6) is None
    assert find_interval(np.array([1.0, np.nan, 3.0]), 10**9) == pytest.approx((1.05, 2.95))  # quantiles of 1 and 3


def test_pooling_an_empty_draw_is_undefined_not_wrong():
    moments = Moments(np.array([0, 2]), *np.array([[0.0, 1.0]] * 5))
    assert np.isnan(moments.pool(np.array([[2.0, 0.0]])).ccc).all()
