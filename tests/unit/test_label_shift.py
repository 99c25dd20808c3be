"""Shifts against numerical integration, and their correlations against numpy."""

import csv
import functools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import METHODS, TARGETS, MadeResults
from scipy.integrate import quad
from scipy.stats import chi2, norm

from ser.evaluation.label_shift import (
    VARIANCE_FLOOR,
    Gaussians,
    correlate,
    correlate_given_n,
    expect_divergence,
    measure_label_shift,
    read_features,
)
from ser.formats.parquet import read_parquet, write_parquet


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    results = MadeResults(tmp_path_factory.mktemp("made"), methods=[METHODS[2], METHODS[8]])
    results.evaluate()
    results.study()
    return results


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def diverge(mean, variance, reference_mean, reference_variance):
    """The divergence without what is subtracted from it."""
    n = np.array([9])
    speaker = Gaussians(["a"], n, np.array([mean]), np.array([variance]))
    varied = np.sum(np.array(reference_variance) > 0)
    return speaker.diverge(np.array(reference_mean), np.array(reference_variance))["a"] + varied * expect(9)


@functools.cache
def expect(n):
    """Half of what ln chi-squared with n - 1 degrees of freedom falls short of ln n, by integration; no floor."""
    mean = quad(lambda x: chi2(n - 1).pdf(np.exp(x)) * np.exp(x) * x, -60, 8, limit=200)[0]
    return 0.5 * (np.log(n) - mean)


@settings(deadline=None)  # the first call integrates
@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(0.2, 3))
def test_kl_against_integration(mean, std, reference):
    p, q = norm(mean, std), norm(0.5, reference)
    low, high = mean - 10 * std, mean + 10 * std
    expected, _ = quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), low, high, points=[mean])
    assert diverge([mean], [std**2], [0.5], [reference**2]) == pytest.approx(expected, abs=1e-6)


def test_kl_adds_up_over_dimensions_and_skips_those_without_spread():
    one = diverge([1.0], [4.0], [0.0], [1.0])
    assert one == pytest.approx(0.5 * (4 + 1 - 1 - np.log(4)))
    assert diverge([1.0, 1.0, 3.0], [4.0, 4.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]) == pytest.approx(2 * one)
    assert diverge([0.3], [2.0], [0.3], [2.0]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 5, 50])
def test_speakers_like_the_training_set_have_no_shift_on_average(n):
    """Before, 1,024 dimensions and 2 utterances made a shift of 1,006 nats of nothing."""
    rng = np.random.default_rng(n)
    drawn = rng.normal(3, 2, size=(4000, n, 16))
    flat = np.full((4000, 1), 7.0)  # a dimension in which the training set does not vary adds nothing
    mean, variance = (np.hstack([part, flat * scale]) for part, scale in ((drawn.mean(1), 1), (drawn.var(1), 0)))
    speakers = Gaussians([str(s) for s in range(4000)], np.full(4000, n), mean, variance)
    reference = [np.array([*[value] * 16, last]) for value, last in ((3.0, 7.0), (4.0, 0.0))]
    shifts = np.array(list(speakers.diverge(*reference).values()))
    assert abs(shifts.mean()) < 4 * shifts.std() / np.sqrt(4000)  # 4 standard errors of the simulation


def test_what_chance_adds_is_exact_with_the_floor_too():
    assert expect_divergence(np.array([50]))[0] == pytest.approx(expect(50), abs=1e-9)
    floored = chi2(1)  # two utterances agree to a thousandth of the spread once in a thousand
    below = quad(lambda x: floored.cdf(2 * np.exp(x)), -60, np.log(VARIANCE_FLOOR))[0] / 2
    assert below > 0.001
    assert expect_divergence(np.array([2]))[0] == pytest.approx(expect(2) - below, abs=1e-6)


def test_speakers_without_a_distribution_are_left_out():
    speakers = Gaussians(
        ["one", "flat", "fine"], np.array([1, 5, 5]), np.ones((3, 2)), np.array([[0, 0], [0, 0], [0, 1.0]])
    )
    found = speakers.diverge(np.zeros(2), np.ones(2))
    assert list(found) == ["fine"]
    assert np.isfinite(found["fine"])  # a dimension in which few utterances agree is floored, not infinite


def test_pooling_speakers_is_pooling_utterances():
    rng = np.random.default_rng(0)
    groups = [rng.normal(loc, 1 + loc, size=(n, 3)) for loc, n in ((0, 4), (2, 9), (5, 2))]
    pooled = Gaussians(
        ["a", "b", "c"],
        np.array([len(g) for g in groups]),
        np.array([g.mean(axis=0) for g in groups]),
        np.array([g.var(axis=0) for g in groups]),
    ).pool()
    everything = np.concatenate(groups)
    np.testing.assert_allclose(pooled[0], everything.mean(axis=0))
    np.testing.assert_allclose(pooled[1], everything.var(axis=0))


def test_a_row_of_the_study(made):
    rows = read_csv(made.root / "label_shift.csv")
    header = "ablation,calibration,target,split,speaker_id,n,feature_shift,label_shift,ccc,gain"
    assert ",".join(rows[0]) == header
    assert len(rows) == 2 * len(TARGETS) * 24
    speakers = read_csv(made.root / "speaker_table.csv")
    train = np.array(read_parquet(made.labels("train"))["arousal"].to_pylist())
    table = read_parquet(made.labels("test")).to_pylist()
    for row in rows:
        if (row["ablation"], row["target"]) != ("other", "arousal"):
            continue
        key = {name: row[name] for name in ("ablation", "target", "split", "speaker_id")}
        own = {s["calibration"]: s for s in speakers if key.items() <= s.items()}
        assert row["ccc"] == own["none"]["ccc"] and row["gain"] == own["mu_sigma"]["delta_ccc"]
        y = np.array([r["arousal"] for r in table if r["speaker_id"] == row["speaker_id"]])
        expected = diverge([y.mean()], [y.var()], [train.mean()], [train.var()]) - expect(len(y))
        assert float(row["label_shift"]) == pytest.approx(expected, abs=1e-6)


def test_correlations_against_numpy(made):
    rows = read_csv(made.root / "label_shift.csv")
    found = read_csv(made.root / "label_shift_correlations.csv")
    assert len(found) == 2 * len(TARGETS) * 5
    for row in found:
        own = [r for r in rows if all(r[c] == row[c] for c in ("ablation", "target", "split"))]
        x, y = ([float(r[row[axis]]) for r in own] for axis in ("x", "y"))
        assert float(row["r"]) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-4)  # the CSV has 6 decimals
        assert -1 <= float(row["r_low"]) <= float(row["r"]) <= float(row["r_high"]) <= 1
        assert all(row[f"r_given_n{end}"] == row[f"r{end}"] for end in ("", "_low", "_high"))  # n is the same for all
    by_pair = {
        (r["x"], r["y"]): float(r["r"]) for r in found if (r["ablation"], r["target"]) == ("baseline", "valence")
    }
    assert by_pair["label_shift", "ccc"] < -0.3  # planted: predictions do not know the speaker's mean


def test_too_few_speakers_or_no_spread_have_no_correlation():
    assert correlate([(1.0, 2.0), (2.0, 1.0)], 100, 1) == {"n_speakers": 2}
    assert correlate([(1.0, 2.0), (1.0, 1.0), (1.0, 3.0)], 100, 1) == {"n_speakers": 3}
    assert correlate([], 100, 1) == {"n_speakers": 0}
    assert correlate([(1.0, 2.0), (2.0, 4.0), (5.0, 10.0)], 100, 1)["r"] == pytest.approx(1)


def test_figures_that_go_together_through_n_alone_do_not_given_n():
    """Against the correlation of what least squares leave, and with the interval around nothing."""
    rng = np.random.default_rng(2)
    n = rng.integers(2, 200, size=80)
    x, y = (sign * np.log(n) + rng.normal(0, 0.5, size=80) + 1e3 for sign in (1, -1))
    pairs = list(zip(x, y, strict=True))
    assert correlate(pairs, 200, 1)["r"] < -0.5
    found = correlate_given_n(pairs, n.tolist(), 200, 1)
    design = np.stack([np.ones(80), np.log(n)], axis=1)
    left = [side - design @ np.linalg.lstsq(design, side, rcond=None)[0] for side in (x, y)]
    assert found["r_given_n"] == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-9)
    assert found["r_given_n_low"] < 0 < found["r_given_n_high"]


def test_figures_that_n_explains_have_no_correlation_given_n():
    n = [2, 4, 8, 16, 32]
    pairs = [(np.log(count), value) for count, value in zip(n, [1.0, 3.0, 2.0, 5.0, 4.0], strict=True)]
    assert correlate_given_n(pairs, n, 100, 1) == {}
    assert correlate_given_n(pairs[:3], n[:3], 100, 1) == {}  # three speakers lie on a line whatever they are
    assert correlate_given_n([(1.0, 2.0), (1.0, 3.0), (1.0, 4.0), (1.0, 5.0)], n[:4], 100, 1) == {}


def test_the_plot_is_a_picture_and_the_same_again(made):
    before = (made.root / "label_shift.svg").read_bytes()
    assert before.startswith(b"<svg")
    assert all(name.encode() in before for name in (*TARGETS, "label shift", "gain in CCC by mu_sigma"))
    assert before.count(b'aria-roledescription="circle"') == 24 * 3 * len(TARGETS)
    made.study()
    assert (made.root / "label_shift.svg").read_bytes() == before


def test_without_test_splits_the_files_say_so(made, tmp_path):
    names = {"shifts": "a.csv", "correlations": "b.csv", "plot": "c.svg"}
    made.study(labels={}, features={}, **{key: str(tmp_path / name) for key, name in names.items()})
    assert read_csv(tmp_path / "a.csv") == read_csv(tmp_path / "b.csv") == []
    assert b"no test speaker has labels" in (tmp_path / "c.svg").read_bytes()


def test_a_withheld_target_has_no_label_shift(made, tmp_path):
    table = read_parquet(made.labels("test"))
    path = str(tmp_path / "test.parquet")
    write_parquet(path, table.set_column(2, "valence", pa.nulls(len(table), pa.float64())))
    shifts = measure_label_shift(made.labels("train"), path, TARGETS)
    assert shifts["valence"] == {} and len(shifts["arousal"]) == 24


def test_features_are_read_as_written(made):
    features = read_features(str(made.root / "encoder_summaries/demo/test.parquet"))
    assert features.mean.shape == features.variance.shape == (24, 12)
    assert features.speakers[3] == "test 003"


def test_a_correlation_of_a_line_and_its_interval_stay_within_one():
    """Draws of few distinct speakers lie on a line to rounding, from either side of 1."""
    pairs = [(0.1 * x + 1e3, 0.3 * x) for x in (1, 2, 3.3, 4, 5, 6.1)]
    found = correlate(pairs, draws=500, seed=1)
    assert found["r"] == pytest.approx(1, abs=1e-6)
    assert -1 <= found["r_low"] <= found["r"] <= found["r_high"] <= 1
