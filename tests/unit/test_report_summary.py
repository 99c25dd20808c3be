"""What the report says in words and counts: differences, power, cautions, gaps between groups."""

import pytest

from ser.report.page import format_size, format_time
from ser.report.summary import (
    count_differences,
    describe_groups,
    describe_power,
    format_interval,
    format_number,
    judge,
    list_cautions,
)


def test_the_gaps_that_are_told_from_none_are_counted():
    sizes = {"group": "sex", "split": "test", "n_speakers": 6.0}
    rows = [sizes | {"value": value, "gap_a_ccc_p_adjusted": p} for value in "fm" for p in (0.049, 0.051, None)]
    rows.append(sizes | {"value": "x", "gap_a_ccc_p_adjusted": None, "n_speakers": 5.0})
    assert describe_groups(rows) == [{"name": "sex", "compared": 4, "told": 2, "small": ["x (5, test)"]}]


def test_numbers_are_written_for_people():
    assert [format_number(v, 2, sign=True) for v in (0.126, -0.126, None)] == ["+0.13", "\u22120.13", "\u2013"]
    assert format_interval(-0.1, 0.25) == "[\u22120.100, 0.250]" and format_interval(None, None) == ""
    assert [format_size(v) for v in (0, 999, 1500, 123456789)] == ["0 B", "999 B", "1.5 kB", "123 MB"]
    assert [format_time(v) for v in (0.04, 90, 5400)] == ["0.0 s", "1.5 min", "1.5 h"]


def test_differences_are_counted():
    lines = [{"compared": 8, "above": 2, "below": 0}, {"compared": 12, "above": 1, "below": 3}]
    assert count_differences(lines) == {"compared": 20, "above": 3, "below": 3}


@pytest.mark.parametrize(
    ("p", "adjusted", "delta", "bound", "words"),
    [
        (None, None, 0.3, None, "no interval"),
        (0.001, 0.01, 0.3, 0.4, "better"),
        (0.001, 0.01, -0.3, 0.4, "worse"),
        (0.03, 0.2, 0.3, 0.4, "too few to tell"),
        (0.6, 1.0, 0.01, 0.04, "no difference larger than 0.040"),
    ],
)
def test_what_may_be_said_of_a_difference(p, adjusted, delta, bound, words):
    row = {"delta_a_ccc_p": p, "delta_a_ccc_p_adjusted": adjusted, "delta_a_ccc": delta, "delta_a_ccc_bound": bound}
    assert judge(row, margin=0.05) == words


def test_the_power_of_a_run_is_said_by_family():
    rows = [
        {"split": "test", "family": family, "detectable_delta": size, "n_speakers": 12.0}
        for family, sizes in {"ablations": (0.1, 0.2, 0.12), "calibrations": (0.06,), "": (0.5,)}.items()
        for size in sizes
    ]
    one, two = describe_power([*rows, rows[0] | {"detectable_delta": None}], seeds=3)
    assert (one["family"], one["detectable"], one["speakers"], one["wanted"]) == ("ablations", 0.12, 12, 1730)
    assert (two["family"], two["detectable"], two["wanted"]) == ("calibrations", 0.06, 430)


def test_cautions_name_what_weakens_the_figures():
    cells = [{"split": split, "n_speakers": n} for split, n in {"test": 1.0, "second": 6.0, "validation": 40.0}.items()]
    cards = {"a": {"weights": "random-init"}, "b": {"weights": "given"}}
    cautions = " ".join(list_cautions(cells, cards, [1], 2))
    few = ("Only 1 speaker counts in split test: even if", "Only 6 speakers count in split second: its intervals")
    for words in (*few, "weights of encoder a are random", "One seed", "2 audio files"):
        assert words in cautions
    assert "validation" not in cautions and "encoder b" not in cautions
    assert list_cautions(cells[2:], {"b": {}}, [1, 2], 0) == []
    trained = [cells[2] | {"encoder": "b", "encoder_trained_on": "MSP-Podcast train, labels"}] * 2
    (caution,) = list_cautions(trained, {"b": {}}, [1, 2], 0)
    assert caution.startswith("Encoder b was trained before on MSP-Podcast train, labels: on that corpus its rows")
