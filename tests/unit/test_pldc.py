"""PLDC against the paper's formulas by hand, and its invariances."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ser.statistics.enrolment import rank_utterances
from ser.statistics.pldc import average_neighbours, fit_line, keep_share, pool_neighbours, weigh_neighbours
from ser.statistics.similarity import rank_neighbours

ROOT = Path(__file__).parents[2]
SHIFTS = ["mu", "sigma", "mu_sigma"]
numbers = st.integers(-500, 500).map(lambda n: n / 100)
predictions = st.lists(numbers, min_size=2, max_size=20, unique=True).map(np.array)


def calibrate(shift, y, target_mean, target_std, alpha=0.0):
    target_mean, target_std = keep_share(alpha, y.mean(), target_mean), keep_share(alpha, y.std(), target_std)
    slope, mean = fit_line(shift, y.mean(), y.std(), target_mean, target_std)
    return slope * (y - y.mean()) + mean


def test_no_shift_of_the_schema_goes_untested():
    schema = yaml.safe_load((ROOT / "rules" / "config.schema.yaml").read_text(encoding="utf-8"))
    methods = schema["properties"]["calibration"]["properties"]["methods"]
    assert set(SHIFTS) == set(methods["items"]["properties"]["shift"]["enum"])


def test_the_papers_formulas_by_hand():
    y = np.array([2.0, 4.0, 6.0])  # mu = 4, sigma = sqrt(8/3)
    sigma = np.sqrt(8 / 3)
    np.testing.assert_allclose(calibrate("mu", y, 5, 1), [3, 5, 7])
    np.testing.assert_allclose(calibrate("sigma", y, 5, 1), [4 - 2 / sigma, 4, 4 + 2 / sigma])
    np.testing.assert_allclose(calibrate("mu_sigma", y, 5, 1), [5 - 2 / sigma, 5, 5 + 2 / sigma])
    # half of the way: mu 4.5, sigma (sigma + 1) / 2
    half = (sigma + 1) / 2
    np.testing.assert_allclose(
        calibrate("mu_sigma", y, 5, 1, 0.5), [4.5 - 2 * half / sigma, 4.5, 4.5 + 2 * half / sigma]
    )


@given(st.sampled_from(SHIFTS), predictions)
def test_own_statistics_are_the_identity(shift, y):
    np.testing.assert_allclose(calibrate(shift, y, y.mean(), y.std()), y, atol=1e-9)


@given(st.sampled_from(SHIFTS), predictions, numbers, st.floats(0, 5))
def test_alpha_1_is_the_identity(shift, y, mean, std):
    np.testing.assert_allclose(calibrate(shift, y, mean, std, alpha=1.0), y, atol=1e-9)


@given(predictions, numbers, st.floats(0.1, 5), st.floats(0.1, 10), numbers)
def test_mu_sigma_gives_the_targets_whatever_the_scale_of_predictions(y, mean, std, scale, offset):
    calibrated = calibrate("mu_sigma", y, mean, std)
    assert calibrated.mean() == pytest.approx(mean, abs=1e-9)
    assert calibrated.std() == pytest.approx(std, rel=1e-9)
    np.testing.assert_allclose(calibrate("mu_sigma", scale * y + offset, mean, std), calibrated, atol=1e-6)


@given(predictions, numbers, st.floats(0.1, 5))
def test_each_shift_moves_only_its_part_and_keeps_the_order(y, mean, std):
    mu, sigma = calibrate("mu", y, mean, std), calibrate("sigma", y, mean, std)
    assert (mu.mean(), mu.std()) == pytest.approx((mean, y.std()), abs=1e-9)
    assert (sigma.mean(), sigma.std()) == pytest.approx((y.mean(), std), abs=1e-9)
    assert (np.argsort(sigma) == np.argsort(y)).all()


@pytest.mark.parametrize("shift, expected", [("mu", 5), ("sigma", 3), ("mu_sigma", 5)])
def test_predictions_without_spread_keep_their_slope(shift, expected):
    np.testing.assert_allclose(calibrate(shift, np.full(4, 3.0), 5, 2), np.full(4, expected))
    np.testing.assert_allclose(calibrate(shift, np.array([3.0]), 5, 2), [expected])  # one utterance


def test_neighbours_by_cosine():
    references = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [0.0, 0.0], [0.0, 1.0]])
    order, cosine = rank_neighbours(np.array([[0.0, 5.0], [0.0, 0.0]]), references)
    assert order[0].tolist() == [1, 4, 2, 0, 3]  # the equal ones in their own order; zeros are like nobody
    np.testing.assert_allclose(cosine[0], [1, 1, np.sqrt(0.5), 0, 0], atol=1e-9)  # rounded to 9 digits
    assert order[1].tolist() == [0, 1, 2, 3, 4]


@given(st.integers(1, 5), st.floats(0.1, 100))
def test_neighbours_do_not_depend_on_the_length_of_vectors(seed, scale):
    rng = np.random.default_rng(seed)
    vectors, references = rng.normal(size=(3, 4)), rng.normal(size=(6, 4))
    np.testing.assert_array_equal(
        rank_neighbours(vectors, references)[0], rank_neighbours(scale * vectors, references / scale)[0]
    )


def test_averages_of_the_first_k():
    statistics = np.array([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
    order, weights = np.array([[2, 0, 1]]), np.array([[2.0, 1.0, 1.0]])
    uniform = average_neighbours(order, np.ones_like(weights), statistics, [1, 2, 3, 50])
    np.testing.assert_allclose(uniform[0], [[6, 60], [3.5, 35], [3, 30], [3, 30]])  # 50 are more than there are: all
    weighted = average_neighbours(order, weights, statistics, [2])
    np.testing.assert_allclose(weighted[0], [[13 / 3, 130 / 3]])


def test_weights_grow_with_similarity_and_are_even_without_difference():
    weights = weigh_neighbours(np.array([[0.99, 0.98, 0.97], [0.5, 0.5, 0.5]]))
    assert (np.diff(weights[0]) < 0).all()
    np.testing.assert_allclose(weights[1], 1)
    np.testing.assert_allclose(weigh_neighbours(np.array([[0.9, 0.5, 0.1]]))[0], weights[0])  # blind to scale


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [3.0, 1.0, 2.0]])
def test_pooled_statistics_are_those_of_all_labels_together(weights):
    """The labels written one after the other, each as often as its speaker's weight says."""
    rng = np.random.default_rng(3)
    labels = [rng.normal(mean, 0.5, size) for mean, size in ((2, 7), (4, 3), (6, 12))]
    counts = np.array([len(values) for values in labels])
    means, stds = (np.array([[f(values)] for values in labels]) for f in (np.mean, np.std))
    order, weights = np.array([[2, 0, 1]]), np.array([weights])
    for k in (1, 2, 3, 50):
        pooled = np.concatenate(
            [np.repeat(labels[r], int(w)) for r, w in zip(order[0, :k], weights[0, :k], strict=True)]
        )
        mean, std = pool_neighbours(order, weights, counts, means, stds, k)
        assert (mean.item(), std.item()) == pytest.approx((pooled.mean(), pooled.std()), abs=1e-12)
    assert std.item() > average_neighbours(order, weights, stds, [3]).item()  # it holds the spread between speakers


def test_a_share_of_what_is_not_known_is_nothing():
    own, target = np.array([1.0, np.nan]), np.array([3.0, 5.0])
    np.testing.assert_array_equal(keep_share(0.25, own, target), [2.5, 5.0])
    np.testing.assert_array_equal(keep_share(1.0, own, target), [1.0, 5.0])


def order_of(ids, draw):
    return [name for _, name in sorted(zip(rank_utterances(ids, ["s"] * len(ids), draw), ids, strict=True))]


def test_enrolment_ranks_are_those_of_hashes_and_stable_under_additions():
    ids = [f"speaker/ä {n}" for n in range(20)]
    for draw in (0, 1, 12):
        order = order_of(ids, draw)
        assert order == sorted(ids, key=lambda name: hashlib.sha256(f"{draw} {name}".encode()).hexdigest())
        assert [name for name in order_of([*ids, "another"], draw) if name != "another"] == order
        assert order_of(ids[::-1], draw) == order
    assert order_of(ids, 0) != order_of(ids, 1)


def test_enrolment_ranks_are_within_speakers():
    ids = [f"u{n}" for n in range(9)]
    speakers = ["b", "a", "c", "b", "a", "b", "b", "a", "b"]
    ranks = rank_utterances(ids, speakers, 4)
    for name in "abc":
        own = [n for n, speaker in enumerate(speakers) if speaker == name]
        alone = rank_utterances([ids[n] for n in own], [name] * len(own), 4)
        assert ranks[own].tolist() == alone.tolist() and sorted(alone) == list(range(len(own)))
