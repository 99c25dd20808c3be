import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser.statistics.conformal import measure_half_width


def test_one_utterance_a_speaker_is_split_conformal():
    """The ceil((n + 1) * coverage)-th smallest of n residuals (Lei et al., 2018)."""
    residuals = np.random.default_rng(0).exponential(size=19)
    for coverage in (0.5, 0.8, 0.9, 0.95):
        expected = np.sort(residuals)[int(np.ceil(20 * coverage - 1e-9)) - 1]
        assert measure_half_width(residuals, np.arange(19), coverage) == expected


def test_every_speaker_has_the_same_weight():
    # Four speakers, of a fifth each: 0.8 needs all of them, 0.6 three; the first one's many utterances count once.
    residuals = np.array([*np.full(100, 9.0), 1.0, 2.0, 3.0])
    speaker = np.array([*np.zeros(100, int), 7, 5, 6])
    assert measure_half_width(residuals, speaker, 0.6) == 3.0
    assert measure_half_width(residuals, speaker, 0.8) == 9.0
    assert measure_half_width(residuals, speaker, 0.61) == 9.0
    assert measure_half_width(residuals, speaker, 0.81) == np.inf


def test_without_speakers_nothing_is_known():
    assert measure_half_width(np.empty(0), np.empty(0, int), 0.5) == np.inf


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 4)), min_size=1), st.floats(0.05, 0.95))
def test_more_coverage_is_no_narrower_and_order_does_not_matter(pairs, coverage):
    residuals, speaker = np.array([r for r, _ in pairs]), np.array([s for _, s in pairs])
    width = measure_half_width(residuals, speaker, coverage)
    assert measure_half_width(residuals, speaker, coverage / 2) <= width
    assert measure_half_width(residuals[::-1], speaker[::-1], coverage) == pytest.approx(width)


def test_new_speakers_are_covered():
    """1,000 draws of 9 speakers and a new one, whose errors are the larger the more they speak: at least 0.8."""
    rng, covered = np.random.default_rng(1), []
    for _ in range(1000):
        counts = rng.integers(1, 30, 10)
        errors = [np.abs(rng.normal(rng.normal(), 0.1 * n, n)) for n in counts]
        speaker = np.repeat(np.arange(9), counts[:9])
        covered.append(np.mean(errors[9] <= measure_half_width(np.concatenate(errors[:9]), speaker, 0.8)))
    assert np.mean(covered) > 0.8 - 0.03  # three standard errors of a mean of 1,000 shares
