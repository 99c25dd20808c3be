"""The mean over seeds of a speaker's predictions keeps the spread that each seed has."""

import numpy as np
import pytest

from ser.evaluation.recording_scores import average_seeds


def test_averaging_takes_no_spread_of_a_speaker():
    """Seeds of one model, calibrated to a spread of 0.8: before, their mean kept .9 of it, and conformal widths too."""
    rng = np.random.default_rng(4)
    speaker = np.repeat([0, 1], [40, 25])
    score = rng.normal(size=(65, 2))
    runs = np.array([score + 0.5 * rng.normal(size=(65, 2)) for _ in range(3)])
    for s in (0, 1):
        own = runs[:, speaker == s]
        runs[:, speaker == s] = 4 + 0.8 * (own - own.mean(axis=1, keepdims=True)) / own.std(axis=1, keepdims=True)
    found, plain = average_seeds(runs, speaker), runs.mean(axis=0)
    for s in (0, 1):
        assert (plain[speaker == s].std(axis=0) < 0.76).all()
        np.testing.assert_allclose(found[speaker == s].std(axis=0), 0.8, rtol=1e-12)
        np.testing.assert_allclose(found[speaker == s].mean(axis=0), 4, rtol=1e-12)
        assert np.corrcoef(found[speaker == s, 0], plain[speaker == s, 0])[0, 1] == pytest.approx(1)


def test_seeds_that_contradict_each_other_make_no_order():
    """What two seeds say the other way round is left near its mean; one utterance, and one seed, stay as they are."""
    runs = np.array([[[3.0], [5.0], [2.5]], [[5.0], [3.1], [3.5]]])
    speaker = np.array([0, 0, 1])
    found = average_seeds(runs, speaker)
    plain = runs.mean(axis=0)
    np.testing.assert_allclose(np.ptp(found[:2]), np.sqrt(2) * np.ptp(plain[:2]))
    assert found[2] == plain[2]
    np.testing.assert_allclose(average_seeds(runs[:1], speaker), runs[0], rtol=1e-12)
