"""A row of the table from one cell: who counts, and how its figures are written."""

import audmetric
import numpy as np
import pytest
from made_results import POLICY

from ser.evaluation.cells import (
    Cell,
)
from ser.evaluation.scoring import compute_gini, list_speakers, score_cell, summarise_speakers
from ser.formats.csv_files import format_cell, join_values
from ser.statistics.moments import Policy, measure_speakers, stack


def test_gini_by_pairs():
    values = np.array([0.1, 0.5, 0.2, 0.0, 0.9])
    expected = np.abs(values[:, None] - values).sum() / (2 * len(values) ** 2 * values.mean())
    assert compute_gini(values) == pytest.approx(expected)
    assert compute_gini(np.full(4, 0.3)) == pytest.approx(0)
    assert compute_gini(np.zeros(3)) is None


def make_cell():
    """Five speakers: two regular, one with constant labels, one with two utterances, one with one."""
    truth = [1, 2, 3, 2, 4, 3, 5, 5, 5, 1, 2, 4]
    prediction = [1, 2, 4, 2, 3, 3, 4, 5, 6, 2, 3, 4]
    speaker = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4])
    moments = stack([measure_speakers(truth, prediction, speaker, 6)])  # the sixth speaker has nothing to score
    return Cell("a", "enrol", 0, moments, moments, 1)


@pytest.mark.parametrize(
    "policy, counted, few, constant",
    [
        (Policy(), [0, 1, 3], 1, 1),
        (Policy(min_utterances=3), [0, 1], 2, 1),
        (Policy(constant_labels="zero"), [0, 1, 2, 3], 1, 0),
        (Policy(min_utterances=1, constant_labels="zero"), [0, 1, 2, 3, 4], 0, 0),
        (Policy(min_utterances=4), [], 5, 0),
    ],
)
def test_who_counts(policy, counted, few, constant):
    cell = make_cell()
    row, summary = score_cell(cell, policy), summarise_speakers(cell, policy)
    regular = [([1, 2, 3], [1, 2, 4]), ([2, 4, 3], [2, 3, 3]), ([1, 2], [2, 3])]
    first, second, two = (audmetric.concordance_cc(*pair) for pair in regular)
    ccc = [first, second, 0, two, 0]
    assert row["n_speakers"] == summary["n_speakers"] == len(counted)
    assert (summary["n_few_utterances"], summary["n_constant_labels"], summary["n_only_enrolment"]) == (
        few,
        constant,
        1,
    )
    assert row["n_utterances"] == 12  # O-CCC is of all
    if counted:
        assert row["a_ccc"] == pytest.approx(np.mean([ccc[s] for s in counted]))
    else:
        assert "a_ccc" not in row and "o_ccc" in row
    listed = {s["speaker_id"]: s for s in list_speakers(cell, list("abcdef"), policy)}
    assert set(listed) == set("abcde")
    assert {name for name, s in listed.items() if "ccc" in s} == {"abcde"[s] for s in counted}


def test_cells_of_a_table():
    assert [format_cell(v) for v in (None, 3, "a", 0.5, -1e-9)] == ["", "3", "a", "0.500000", "0.000000"]
    with pytest.raises(ValueError, match="cell is nan"):
        format_cell(float("nan"))
    assert join_values([5, 5]) == "5" and join_values([5, 10]) == "5;10" and join_values([None, None]) == ""
    assert POLICY["min_utterances"] == Policy().min_utterances
