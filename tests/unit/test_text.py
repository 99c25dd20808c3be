"""Text of others: refused as a name, spelled out in terminals, escaped in pages, no formula in a table."""

import csv

import markdown_it
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser.files import DataError, write_text
from ser.formats.csv_files import format_rows, guard, read_table, unguard, write_csv
from ser.text import LONGEST, clean, escape_markdown, find_fault

HOSTILE = {
    "colour": "\x1b[31mred",
    "C1 introducer": "\x9b31mred",
    "right to left": "abc\u202egpj.wav",
    "isolate": "a\u2066b",
    "line separator": "a\u2028b",
    "newline": "a\nb",
    "zero": "a\0b",
    "half a pair": "a\ud800",
    "byte-order mark": "\ufeffa",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_name_holds_nothing_that_moves_or_turns_text(text):
    assert "which is no part of a name" in find_fault(text)
    assert clean(text).replace("\n", "").isprintable()
    assert str(DataError(text)) == clean(text)


@pytest.mark.parametrize("name", ["Anna", "-rf.wav", "a b/ä.wav", "😀‍💻", "می‌خواهم", "s" * LONGEST])
def test_names_of_all_scripts_are_names(name):
    assert find_fault(name) is None and clean(name) == name


def test_a_name_has_an_end():
    assert find_fault("s" * (LONGEST + 1)) == "has 501 characters, expected 500 at most"
    assert find_fault("") == "is empty"


FORMULAS = ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", '=HYPERLINK("http://x")', "'=1", "''@a"]


@pytest.mark.parametrize("text", FORMULAS)
def test_tables_for_people_hold_no_formula(tmp_path, text):
    write_csv(tmp_path / "table.csv", ["speaker_id", "ccc"], [{"speaker_id": text, "ccc": -0.5}])
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        (_, [shown, number]) = csv.reader(file)
    assert shown == f"'{text}" and number == "-0.500000"
    assert read_table(tmp_path / "table.csv", ["speaker_id"]) == [{"speaker_id": text, "ccc": -0.5}]


@given(st.text())
def test_what_is_guarded_comes_back(text):
    assert unguard(guard(text)) == text
    assert (
        guard(text)[:1] not in ("=", "+", "-", "@", "\t", "\r") or float(text) == float(text) or "nan" in text.lower()
    )


def test_a_table_that_is_none_is_named(tmp_path):
    write_text(tmp_path / "table.csv", format_rows(["speaker_id", "ccc"], [["a", "b"]]))
    with pytest.raises(DataError, match="table.csv: is no table of this workflow, or is damaged"):
        read_table(tmp_path / "table.csv", ["speaker_id"])


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:alert(1))", "a | b", "# a\n\n- b", "`x` *y* &amp;"]
)
def test_markdown_shows_it_as_it_is(text):
    html = markdown_it.MarkdownIt("commonmark", {"html": True}).render(f"- key: {escape_markdown(text)}")
    shown = html.removeprefix("<ul>\n<li>key: ").removesuffix("</li>\n</ul>\n")
    assert "<" not in shown and "href" not in html
