"""The ceilings of calibration against a search over means and spreads."""

import numpy as np
import pytest
from scipy.optimize import minimize

from ser.evaluation.cells import calibrate_with_labels
from ser.statistics.moments import measure_speakers, stack


def test_no_mean_and_spread_that_a_search_finds_is_above_the_ceilings():
    rng = np.random.default_rng(5)
    speaker, truth = np.repeat(np.arange(5), 6), rng.normal(size=30)
    prediction = 0.5 * truth + rng.normal(size=30)
    prediction[speaker == 0] = -truth[speaker == 0]  # falls where the labels rise
    prediction[speaker == 1] = 3.0  # says nothing
    none = stack([measure_speakers(truth, prediction, speaker, 5)])
    true, best_a, best_o = calibrate_with_labels(none)
    assert true.ccc[0, 0] == pytest.approx(-1) and best_a.ccc[0, 0] == 0  # the true spread does harm
    assert best_a.ccc[0, 1:] == pytest.approx(np.maximum(none.pearson[0, 1:], 0))

    def pool(values):
        slope, mean = np.abs(values[:5]), values[5:]
        return -none.transform(slope, mean[None]).pool().ccc[0]

    found = min(minimize(pool, rng.normal(size=10), tol=1e-12).fun for _ in range(5))
    assert best_o.pool().ccc[0] == pytest.approx(-found, abs=1e-6)
    assert true.pool().ccc[0] < best_a.pool().ccc[0] < best_o.pool().ccc[0]


def test_ceilings_of_predictions_that_say_nothing():
    none = stack([measure_speakers([1.0, 2.0], [3.0, 3.0], [0, 0], 1)])
    assert [moments.ccc[0, 0] for moments in calibrate_with_labels(none)] == [0, 0, 0]
    alike = stack([measure_speakers([2.0, 2.0], [3.0, 4.0], [0, 0], 1)])
    assert [moments.ccc[0, 0] for moments in calibrate_with_labels(alike)] == [0, 0, 0]
