"""What a sheet may hold: quotation marks, names of columns, and the scale of its labels."""

import pytest
from test_audformat import make_database, save
from test_corpus import GOOD, HEADER, MSP_HEADER, MSP_ROWS, MSP_SHEETS, SETTINGS, write

from ser.corpus.sheet import read_corpus
from ser.files import DataError

ROWS = [[f"{n}.wav", f"s{n}", split, 1, 7] for n, split in enumerate(["train", "train", "validation", "test", "test"])]


def write_text(folder, lines, separator=","):
    (folder / "labels.csv").write_text("".join(separator.join(map(str, line)) + "\n" for line in lines))
    return SETTINGS | {"folder": str(folder)}


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("place", [0, 1, 5], ids=["first", "inner", "last"])
@pytest.mark.parametrize("closes", [1, 2], ids=["the next row", "the row after"])
def test_a_stray_quotation_mark_loses_no_rows(tmp_path, separator, place, closes):
    """Before, the rows between two marks were a cell of one row, and nobody heard of it."""
    rows = [[*row, "said"] for row in ROWS]
    rows[1][place] = f'"{rows[1][place]}'
    rows[1 + closes][5] = 'said"'
    with pytest.raises(
        DataError, match=rf"labels.csv, row 3: a quotation mark .* ends in row {3 + closes}, with whole"
    ):
        read_corpus(write_text(tmp_path, [[*HEADER, "text"], *rows], separator))


def test_a_cell_may_have_lines(tmp_path):
    rows = [[*row, f'"said, on {n}\nlines, and ""so"" on\n"'] for n, row in enumerate(ROWS)]
    assert len(read_corpus(write_text(tmp_path, [[*HEADER, "text"], *rows])).rows) == 5
    rows = [[row[0], '"so\nsaid"', *row[1:]] for row in ROWS]
    assert len(read_corpus(write_text(tmp_path, [["file", "text", *HEADER[1:]], *rows])).rows) == 5


def test_an_open_quotation_mark_is_named_with_its_row(tmp_path):
    rows = [list(row) for row in ROWS]
    rows[3][1] = '"s3'
    with pytest.raises(DataError, match=r"labels.csv, row 5: cannot be read as CSV"):
        read_corpus(write_text(tmp_path, [HEADER, *rows]))


def test_columns_are_renamed_in_a_sheet(tmp_path):
    header = ["name", "who", "part", "V", "arousal", "sex"]
    columns = {"file": "name", "speaker": "who", "split": "part", "valence": "V", "gender": "sex"}
    settings = write(tmp_path, header, [[*row, "f"] for row in GOOD]) | {"columns": columns, "groups": ["gender"]}
    corpus = read_corpus(settings)
    assert [(row.utterance_id, row.speaker_id, row.split, row.labels) for row in corpus.rows] == [
        ("a.wav", "s 1", "train", (1.0, 7.0)), ("b/c.wav", "s/2", "validation", (2.5, 3.0))
    ]  # fmt: skip
    assert corpus.groups == {"s 1": ("f",), "s/2": ("f",)}


def test_columns_are_renamed_in_msp_podcast(tmp_path):
    header = ["Other" if name == "SpkrID" else name for name in MSP_HEADER]
    settings = write(tmp_path, header, MSP_ROWS, f"Labels/{MSP_SHEETS[0]}")
    settings |= {"layout": "msp_podcast", "columns": {"speaker": "Other", "valence": "EmoDom"}}
    corpus = read_corpus(settings)
    assert [row.speaker_id for row in corpus.rows] == ["12", "13", "14", "15"]
    assert corpus.rows[0].labels == (5.0, 4.2)


@pytest.mark.parametrize(
    ("layout", "columns", "message"),
    [
        ("csv", {"speakr": "who"}, "corpus.columns: 'speakr' is no column of layout csv; did you mean 'speaker'"),
        (
            "csv",
            {"dominance": "D"},
            "'dominance' is no column of layout csv; expected one of file, speaker, split, valence",
        ),
        ("csv", {"speaker": "who"}, "column 'who' is missing; the header has 'file', 'speaker'"),
        ("csv", {"start": "from"}, "column 'from' is missing"),
        ("audformat", {"file": "name"}, "'file' is no column of layout audformat"),
    ],
)
def test_columns_that_are_none_are_named(tmp_path, layout, columns, message):
    settings = save(make_database(), tmp_path) | {"layout": layout, "columns": columns}
    write(tmp_path, HEADER, GOOD)
    with pytest.raises(DataError, match=message):
        read_corpus(settings)


def test_another_scale_is_one_message(tmp_path):
    rows = [[*row[:3], 0.1 + n / 5, 0.5] for n, row in enumerate(ROWS)]
    with pytest.raises(DataError) as caught:
        read_corpus(write(tmp_path, HEADER, rows))
    assert str(caught.value) == (
        f"{tmp_path}/labels.csv, row 2: valence '0.1' is not a number from 1 to 7, which is corpus.label_range; labels "
        "here span 0.1 to 0.9, and 10 of 10 lie outside: set corpus.label_range to their scale, or mend the rows"
    )
    corpus = read_corpus(write(tmp_path, HEADER, rows) | {"label_range": [0, 1]})
    assert corpus.rows[0].labels == (0.1, 0.5) and corpus.warnings == []


@pytest.mark.parametrize(
    ("low", "high", "scale", "warned"),
    [
        (1, 5, [1, 7], True),
        (1.2, 4.8, [1, 7], True),
        (0, 1, [-1, 1], True),
        (3.5, 5, [1, 7], True),
        (1, 5, [1, 5], False),
        (1, 6, [1, 7], False),
        (2.08, 6.28, [1, 7], False),  # what categories are on a scale
    ],
)
def test_a_part_of_the_scale_is_a_warning(tmp_path, low, high, scale, warned):
    rows = [[*row[:3], low, high] for row in ROWS]
    warnings = read_corpus(write(tmp_path, HEADER, rows) | {"label_range": scale}).warnings
    said = f"{tmp_path}/labels.csv: labels here span {low:g} to {high:g}, a part of corpus.label_range {scale}: set it"
    assert [warning.split(",")[0] for warning in warnings] == [said.split(",")[0]] * warned


@pytest.mark.parametrize("label_range", [[7, 1], [3, 3]])
def test_a_range_has_a_width(tmp_path, label_range):
    with pytest.raises(DataError, match=r"corpus.label_range: \[.*\] is no range; expected the lowest label, then"):
        read_corpus(write(tmp_path, HEADER, GOOD) | {"label_range": label_range})
