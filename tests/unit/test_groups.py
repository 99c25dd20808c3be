"""The group table: against other libraries and hand-computed intervals, and row by row in what it promises."""

import csv

import audmetric
import numpy as np
import pytest
from made_results import MadeResults
from scipy import stats
from test_scoring import read_run

from ser.evaluation.cells import CONSTANT, Cell
from ser.evaluation.groups import score_group
from ser.formats.parquet import read_parquet
from ser.statistics.moments import Policy, measure_speakers, stack

# The contract.
COLUMNS = (
    "group,value,ablation,calibration,target,split,n_speakers,n_utterances,n_seeds,o_ccc,o_ccc_low,o_ccc_high,"
    "a_ccc,a_ccc_low,a_ccc_high,delta_a_ccc,delta_a_ccc_low,delta_a_ccc_high,delta_o_ccc,delta_o_ccc_low,"
    "delta_o_ccc_high,gap_a_ccc,gap_a_ccc_low,gap_a_ccc_high,gap_a_ccc_p,gap_a_ccc_p_adjusted,note"
)
# Of the test split's 24 speakers 12 are f and 12 m; 5 speak de, 18 en, one nobody knows; all live in one place.
GROUPS = {
    "gender": lambda number: "fm"[number % 2],
    "first language": lambda number: "de" if number < 5 else "unknown" if number == 5 else "en",
    "place": lambda number: "here",
}
METHODS = [{"name": "mu_sigma"}, {"name": "enrol_5", "enrolment": 5}, {"name": "random_k", "neighbours": "random"}]
KEY = ("group", "value", "ablation", "calibration", "target", "split")
FIGURES = COLUMNS.split(",")[6:21]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    results = MadeResults(tmp_path_factory.mktemp("made"), methods=METHODS)
    results.evaluate()
    results.score_groups(GROUPS)
    return results


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def table(made):
    return {tuple(row[name] for name in KEY): row for row in read_csv(made.root / "group_table.csv")}


def number(row, column):
    return float(row[column])


def test_there_is_a_row_for_each_group_of_each_row_of_the_ablation_table(made, table):
    assert (made.root / "group_table.csv").read_text().splitlines()[0] == COLUMNS
    rows = [tuple(row[name] for name in KEY[2:]) for row in read_csv(made.root / "ablation_table.csv")]
    values = {"gender": ["f", "m"], "first language": ["de", "en", "unknown"], "place": ["here"]}
    expected = [(group, value, *row) for group, own in values.items() for value in own for row in rows]
    assert sorted(table) == sorted(expected)
    # in the order of the config and of the ablation table
    assert list(dict.fromkeys(key[0] for key in table)) == list(values)
    assert [key[2:] for key in table if key[:2] == ("gender", "m")] == rows


@pytest.mark.parametrize("calibration", ["none", "mu_sigma", "random_k", "enrol_5"])
def test_figures_against_audmetric(made, table, calibration):
    """Those of the group's speakers alone; the gap is to all others. Files hold float32 and tables 6 decimals."""
    row = table["first language", "en", "other", calibration, "valence", "test"]
    metrics = {"o_ccc": [], "a_ccc": [], "gap_a_ccc": []}
    names = read_parquet(made.seed_files("calibrated", "other", "test")[0])["calibration"].to_pylist()
    for draw in sorted({name for name in names if name.split("/")[0] == calibration}):
        for seed_number in range(2):
            run = read_run(made, "other", draw, "test", "valence", seed_number)
            own = {name: pair for name, pair in run.items() if GROUPS["first language"](int(name[-3:])) == "en"}
            truth, prediction = np.concatenate(list(own.values()), axis=1)
            metrics["o_ccc"].append(audmetric.concordance_cc(truth, prediction))
            ccc = {name: audmetric.concordance_cc(*pair) for name, pair in run.items()}
            metrics["a_ccc"].append(np.mean([ccc[name] for name in own]))
            others = np.mean([value for name, value in ccc.items() if name not in own])
            metrics["gap_a_ccc"].append(metrics["a_ccc"][-1] - others)
    for name, values in metrics.items():
        assert number(row, name) == pytest.approx(np.mean(values), abs=1e-6)
    assert (int(row["n_speakers"]), int(row["n_utterances"]), int(row["n_seeds"])) == (18, truth.size, 2)


def test_a_group_of_all_speakers_is_the_ablation_table_and_has_no_gap(made, table):
    for expected in read_csv(made.root / "ablation_table.csv"):
        row = table["place", "here", *(expected[name] for name in KEY[2:])]
        assert [row[name] for name in FIGURES] == [expected[name] for name in FIGURES]
        assert {row[name] for name in COLUMNS.split(",") if name.startswith("gap")} == {""}
        assert row["note"].endswith("0 other speakers: too few for an interval of the gap")


def test_two_groups_have_one_gap_seen_from_both_sides(table):
    for key, row in table.items():
        if key[:2] == ("gender", "f"):
            other = table["gender", "m", *key[2:]]
            ends = [number(row, f"gap_a_ccc{end}") for end in ("", "_low", "_high")]
            others = [-number(other, f"gap_a_ccc{end}") for end in ("", "_high", "_low")]
            assert ends == pytest.approx(others, abs=1e-9)
            assert row["gap_a_ccc_p"] == other["gap_a_ccc_p"]


def test_a_small_group_has_no_interval_and_says_so(table):
    for key, row in table.items():
        ends = [row[name] for name in COLUMNS.split(",") if name.endswith(("_low", "_high", "_p"))]
        if key[:2] == ("first language", "de"):
            assert set(ends) == {""} and row["a_ccc"] and row["gap_a_ccc"]
            assert row["note"].startswith("5 speakers: too few for an interval")
        if key[:2] == ("first language", "unknown"):
            assert set(ends) == {""} and row["note"].startswith("1 speakers: too few for an interval")


def test_p_values_are_adjusted_for_the_gaps_of_a_column_and_split(table):
    """By the definition of Benjamini and Hochberg; what no system can have, and validation, is not in it."""
    for group in GROUPS:
        rows = [row for key, row in table.items() if key[0] == group and row["gap_a_ccc_p_adjusted"]]
        assert {row["split"] for row in rows} <= {"test"}
        assert {row["calibration"] for row in rows} <= {"none", *(method["name"] for method in METHODS)}
        assert len(rows) == {"gender": 2 * 2 * 4 * 2, "first language": 2 * 4 * 2, "place": 0}[group]
        p = np.array([number(row, "gap_a_ccc_p") for row in rows])
        for row in rows:
            later = [len(p) * q / np.sum(p <= q) for q in p if q >= number(row, "gap_a_ccc_p")]
            assert number(row, "gap_a_ccc_p_adjusted") == pytest.approx(min(1, *later), abs=1e-5)
    assert all(row["gap_a_ccc_p_adjusted"] == "" for key, row in table.items() if key[2] == CONSTANT)


def build_cell(n_speakers, seeds, calibration="none"):
    """A cell of random labels, and predictions that hear some speakers better than others."""
    rng = np.random.default_rng(1)
    speaker = np.repeat(np.arange(n_speakers), 10)
    truth = rng.normal(size=speaker.size)
    runs = [
        measure_speakers(truth, truth + (0.5 + 0.1 * speaker) * rng.normal(size=truth.size), speaker, n_speakers)
        for _ in range(seeds)
    ]
    return Cell("a", calibration, 0, stack(runs), None, seeds)


def test_intervals_of_one_seed_are_students_and_welchs():
    """Over speakers alone: the mean of 8 CCCs, and the difference of the means of 8 and 7."""
    cell, member = build_cell(15, 1), np.arange(15) < 8
    row, ccc = score_group(cell, member, Policy()), cell.moments.ccc[0]
    reach = stats.t.ppf(0.975, 7) * ccc[:8].std(ddof=1) / np.sqrt(8)
    assert [row["a_ccc_low"], row["a_ccc_high"]] == pytest.approx([ccc[:8].mean() - reach, ccc[:8].mean() + reach])
    welch = stats.ttest_ind(ccc[:8], ccc[8:], equal_var=False)
    assert row["gap_a_ccc"] == pytest.approx(ccc[:8].mean() - ccc[8:].mean())
    assert [row["gap_a_ccc_low"], row["gap_a_ccc_high"]] == pytest.approx(tuple(welch.confidence_interval()))
    assert row["gap_a_ccc_p"] == pytest.approx(welch.pvalue)
    assert row["note"] == "gap: one seed: of the trained model alone"


def test_too_few_others_leave_the_group_its_interval_and_the_gap_none():
    row = score_group(build_cell(15, 3), np.arange(15) < 10, Policy())
    assert "a_ccc_low" in row and "gap_a_ccc" in row and "gap_a_ccc_low" not in row
    assert "5 other speakers: too few for an interval of the gap" in row["note"]


def test_speakers_that_do_not_count_are_in_no_gap():
    """Of a group whose speakers have too few utterances there is an O-CCC and no A-CCC."""
    cell, member = build_cell(12, 2), np.arange(12) < 6
    assert "gap_a_ccc" not in score_group(cell, member, Policy(min_utterances=11))
    assert "o_ccc" in score_group(cell, member, Policy(min_utterances=11))
