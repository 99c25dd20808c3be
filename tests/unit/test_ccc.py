"""The CCC against its formula written out again, another library, and its invariances."""

import audmetric
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ser.statistics.ccc import compute_ccc
from ser.statistics.moments import measure_speakers

# Ratings of two digits, so that two different ones are never within rounding of each other.
ratings = st.lists(st.integers(0, 700).map(lambda n: n / 100), min_size=2, max_size=30)
pairs = st.lists(st.tuples(*[st.integers(0, 700).map(lambda n: n / 100)] * 2), min_size=2, max_size=30)


def split(values):
    truth, prediction = np.array(values).T
    assume(np.ptp(truth) > 0 and np.ptp(prediction) > 0)
    return truth, prediction


def test_hand_computed():
    # means 2 and 3, variances 2/3 and 2/3, covariance 2/3: 2 * 2/3 / (4/3 + 1) = 4/7
    assert compute_ccc([1, 2, 3], [2, 3, 4]) == pytest.approx(4 / 7)
    assert compute_ccc([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


@given(pairs)
def test_against_audmetric_and_the_correlation_form(values):
    truth, prediction = split(values)
    # Lin's other form: rho * C_b with v = ratio of spreads, u = location shift
    v, u = truth.std() / prediction.std(), (truth.mean() - prediction.mean()) / np.sqrt(truth.std() * prediction.std())
    expected = np.corrcoef(truth, prediction)[0, 1] * 2 / (v + 1 / v + u**2)
    assert compute_ccc(truth, prediction) == pytest.approx(expected, abs=1e-9)  # float64, values below 10
    assert compute_ccc(truth, prediction) == pytest.approx(audmetric.concordance_cc(truth, prediction), abs=1e-9)


@given(pairs, st.floats(0.1, 10), st.floats(-10, 10))
def test_symmetric_bounded_and_blind_to_a_common_scale(values, scale, offset):
    truth, prediction = split(values)
    ccc = compute_ccc(truth, prediction)
    assert -1 - 1e-12 <= ccc <= 1 + 1e-12
    assert compute_ccc(prediction, truth) == pytest.approx(ccc, abs=1e-9)
    assert compute_ccc(scale * truth + offset, scale * prediction + offset) == pytest.approx(ccc, abs=1e-6)
    assert compute_ccc(-truth, prediction) <= abs(np.corrcoef(truth, prediction)[0, 1]) + 1e-9


@given(ratings)
def test_perfect_agreement(values):
    assume(np.ptp(values) > 0)
    assert compute_ccc(values, values) == pytest.approx(1)


@pytest.mark.parametrize("truth, prediction", [([1, 2], [3, 3]), ([3, 3], [1, 2]), ([0.1] * 7, [0.1] * 7), ([1], [1])])
def test_a_constant_side_gives_0(truth, prediction):
    assert compute_ccc(truth, prediction) == 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="equally long"):
        compute_ccc([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="equally long"):
        compute_ccc([], [])


@given(pairs, st.lists(st.integers(0, 4), min_size=30, max_size=30))
def test_moments_per_speaker_and_pooled(values, speakers):
    truth, prediction = np.array(values).T
    speaker = np.array(speakers[: len(truth)])
    moments = measure_speakers(truth, prediction, speaker, 5)
    for s in range(5):
        own = speaker == s
        expected = compute_ccc(truth[own], prediction[own]) if own.any() else 0
        assert moments.ccc[s] == pytest.approx(expected, abs=1e-9)
    pooled = moments.pool()
    assert pooled.ccc == pytest.approx(compute_ccc(truth, prediction), abs=1e-9)
    assert pooled.rmse == pytest.approx(np.sqrt(np.mean((truth - prediction) ** 2)), abs=1e-6)  # a root near 0
    if np.ptp(truth) > 0 and np.ptp(prediction) > 0:
        assert pooled.pearson == pytest.approx(np.corrcoef(truth, prediction)[0, 1], abs=1e-9)
