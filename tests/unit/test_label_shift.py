"""Shifts against numerical integration, and their correlations against numpy."""

import csv

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_results import METHODS, TARGETS, MadeResults
from scipy.integrate import quad
from scipy.stats import norm

from ser.evaluation.label_shift import Gaussians, correlate, measure_label_shift, read_features
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
    speaker = Gaussians(["a"], np.array([9]), np.array([mean]), np.array([variance]))
    return speaker.diverge(np.array(reference_mean), np.array(reference_variance))["a"]


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
    assert diverge([0.3], [2.0], [0.3], [2.0]) == 0


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
        expected = diverge([y.mean()], [y.var()], [train.mean()], [train.var()])
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
    by_pair = {
        (r["x"], r["y"]): float(r["r"]) for r in found if (r["ablation"], r["target"]) == ("baseline", "valence")
    }
    assert by_pair["label_shift", "ccc"] < -0.3  # planted: predictions do not know the speaker's mean


def test_too_few_speakers_or_no_spread_have_no_correlation():
    assert correlate([(1.0, 2.0), (2.0, 1.0)], 100, 1) == {"n_speakers": 2}
    assert correlate([(1.0, 2.0), (1.0, 1.0), (1.0, 3.0)], 100, 1) == {"n_speakers": 3}
    assert correlate([], 100, 1) == {"n_speakers": 0}
    assert correlate([(1.0, 2.0), (2.0, 4.0), (5.0, 10.0)], 100, 1)["r"] == pytest.approx(1)


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
