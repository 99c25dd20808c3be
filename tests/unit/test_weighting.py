import numpy as np
import pytest

from ser.heads.weighting import weigh_speakers


def test_votes_by_hand():
    """Two clusters on opposite sides: both targets are near a and b, so each of those gets two votes of four."""
    training = {"a": [1.0, 1.0], "b": [1.1, 0.9], "c": [-1.0, -1.0], "d": [-1.1, -0.9]}
    targets = {"x": [2.0, 2.0], "y": [0.5, 0.4]}
    training, targets = ({k: np.array(v) for k, v in group.items()} for group in (training, targets))
    weights = weigh_speakers(training, targets, neighbours=2, strength=1.0)
    # 1 + votes / mean votes = 1 + 2 / 1 for a and b, 1 for c and d; their mean is 2
    assert weights == pytest.approx({"a": 1.5, "b": 1.5, "c": 0.5, "d": 0.5})


def test_without_strength_every_speaker_counts_the_same():
    rng = np.random.default_rng(0)
    speakers = {str(i): rng.standard_normal(13) for i in range(6)}
    assert weigh_speakers(speakers, speakers, 3, 0.0) == dict.fromkeys(speakers, 1.0)


def test_more_neighbours_than_speakers_means_all():
    rng = np.random.default_rng(0)
    speakers = {str(i): rng.standard_normal(13) for i in range(3)}
    assert weigh_speakers(speakers, speakers, 10, 1.0) == pytest.approx(dict.fromkeys(speakers, 1.0))
