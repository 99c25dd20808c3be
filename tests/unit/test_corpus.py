import csv
import os

import pytest
from made_corpus import DEFAULTS

from ser.corpus.layouts import MSP_SHEETS
from ser.corpus.sheet import read_corpus
from ser.files import DataError

SETTINGS = DEFAULTS | {"targets": ["valence", "arousal"], "shards": 2}
HEADER = ["file", "speaker", "split", "valence", "arousal"]
GOOD = [["a.wav", "s 1", "train", "1", "7"], ["b/c.wav", "s/2", "validation", "2.5", "3"]]
MSP_HEADER = ["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"]
MSP_ROWS = [
    ["MSP-PODCAST_0001_0001.wav", "N", "4.2", "3.1", "5.0", "12", "Female", "Train"],
    ["MSP-PODCAST_0001_0002.wav", "N", "4.0", "3.0", "5.0", "Unknown", "Male", "Train"],
    ["MSP-PODCAST_0002_0001.wav", "A", "6.0", "2.0", "6.0", "13", "Male", "Development"],
    ["MSP-PODCAST_0003_0001.wav", "H", "5.0", "6.0", "5.0", "14", "Male", "Test1"],
    ["MSP-PODCAST_0004_0001.wav", "", "", "", "", "15", "Male", "Test3"],
]


def write(folder, header, rows, name="labels.csv", **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        csv.writer(file, **options).writerows([header, *rows])
    return SETTINGS | {"folder": str(folder)}


def test_reads_rows_sorted_and_typed(tmp_path):
    corpus = read_corpus(write(tmp_path, HEADER, GOOD[::-1]))
    assert [(r.utterance_id, r.speaker_id, r.split, r.labels) for r in corpus.rows] == [
        ("a.wav", "s 1", "train", (1.0, 7.0)),
        ("b/c.wav", "s/2", "validation", (2.5, 3.0)),
    ]
    assert corpus.rows[1].path == f"{tmp_path}/audio/b/c.wav"


@pytest.mark.parametrize(
    "options",
    [{"delimiter": ";"}, {"delimiter": "\t"}, {"encoding": "utf-8-sig"}, {"quoting": csv.QUOTE_ALL}],
    ids=["semicolon", "tab", "byte-order mark", "quoted"],
)
def test_dialects(tmp_path, options):
    assert len(read_corpus(write(tmp_path, HEADER, GOOD, **options)).rows) == 2


def test_other_columns_are_ignored(tmp_path):
    settings = write(tmp_path, [*HEADER, "category"], [[*row, "anger"] for row in GOOD])
    assert len(read_corpus(settings).rows) == 2


def test_ids_keep_their_spelling(tmp_path):
    rows = [
        *GOOD,
        ["ä ö/😀.v1.wav", "Жанна d'Arc, 2", "train", "1", "1"],
        ["A.wav", "s 1", "train", "1", "1"],
    ]
    corpus = read_corpus(write(tmp_path, HEADER, rows))
    assert {("ä ö/😀.v1.wav", "Жанна d'Arc, 2"), ("A.wav", "s 1")} <= {
        (r.utterance_id, r.speaker_id) for r in corpus.rows
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["a.wav", "s 1", "train", "1", "1"], r"row 4: file 'a.wav' is listed already in row 2"),
        (["./a.wav", "s 1", "train", "1", "1"], r"listed already in row 2"),
        (["x.wav", "s 1", "train", "high", "1"], r"row 4: valence 'high' is not a number from 1 to 7"),
        (["x.wav", "s 1", "train", "1", "7.5"], r"arousal '7.5' is not a number from 1 to 7"),
        (["x.wav", "s 1", "train", "nan", "1"], r"valence 'nan' is not a number"),
        (["x.wav", "s 1", "train", "inf", "1"], r"valence 'inf' is not a number"),
        (["x.wav", "s 1", "train", "-2", "1"], r"valence '-2' is not a number from 1"),
        (["x.wav", "s 1", "train", "", "1"], r"valence '' is not a number"),
        (["x.wav", "s 1", "validation", "1", "1"], r"speaker 's 1' is in split 'validation', but in 'train' in row 2"),
        (["x.wav", "s 3", "Train", "1", "1"], r"split 'Train' is unknown; expected one of train, validation, test"),
        (["../x.wav", "s 1", "train", "1", "1"], r"file '../x.wav' is not a path inside the audio folder"),
        (["y/../../x.wav", "s 1", "train", "1", "1"], r"is not a path inside"),
        (["/etc/x.wav", "s 1", "train", "1", "1"], r"is not a path inside"),
        (["x\ny.wav", "s 1", "train", "1", "1"], r"is not a path inside"),
        (["x.wav", "s 1", "train", "1"], r"row 4: has 4 cells; the header has 5"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read_corpus(write(tmp_path, HEADER, [*GOOD, row]))


def test_several_problems_are_reported_at_once(tmp_path):
    rows = [[f"{i}.wav", "s 1", "train", "x", "1"] for i in range(12)]
    with pytest.raises(DataError, match=r"(?s)row 4:.*row 13:.*\.\.\. and 2 more"):
        read_corpus(write(tmp_path, HEADER, [*GOOD, *rows]))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["file", "speaker", "split", "valence"], r"column 'arousal' is missing; the header has 'file'"),
        ([*HEADER, "valence"], r"column 'valence' is there more than once"),
    ],
)
def test_bad_headers_are_named(tmp_path, header, message):
    with pytest.raises(DataError, match=message):
        read_corpus(write(tmp_path, header, []))


def test_unreadable_sheets_are_named(tmp_path):
    settings = write(tmp_path, HEADER, GOOD)
    (tmp_path / "labels.csv").write_bytes(b"file;M\xfcller\n")
    with pytest.raises(DataError, match="labels.csv: is not UTF-8"):
        read_corpus(settings)
    (tmp_path / "labels.csv").write_bytes(b"")
    with pytest.raises(DataError, match="labels.csv: is empty"):
        read_corpus(settings)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DataError, match="there is no such label sheet"):
        read_corpus(settings)


def test_a_split_without_utterances_is_named(tmp_path):
    with pytest.raises(DataError, match="no utterance of a known speaker is in split 'validation'"):
        read_corpus(write(tmp_path, HEADER, GOOD[:1]))


def test_labels_are_withheld_for_a_whole_test_split_or_not_at_all(tmp_path):
    test = [["t1.wav", "t", "test", "", "2"], ["t2.wav", "t", "test", "", "3"]]
    rows = read_corpus(write(tmp_path, HEADER, [*GOOD, *test])).rows
    assert [row.labels for row in rows if row.split == "test"] == [(None, 2.0), (None, 3.0)]
    test[1][3] = "4"
    with pytest.raises(DataError, match="row 4: valence is blank, but 1 other utterances of split 'test' have it"):
        read_corpus(write(tmp_path, HEADER, [*GOOD, *test]))


@pytest.mark.parametrize("sheet", MSP_SHEETS)
@pytest.mark.parametrize("validation", ["Development", "Validation"])
def test_msp_podcast(tmp_path, sheet, validation):
    rows = [[validation if cell == "Development" else cell for cell in row] for row in MSP_ROWS]
    write(tmp_path, MSP_HEADER, rows, f"Labels/{sheet}")
    settings = SETTINGS | {
        "folder": str(tmp_path), "layout": "msp_podcast", "targets": ["valence", "arousal", "dominance"]
    }  # fmt: skip
    corpus = read_corpus(settings)
    first = corpus.rows[0]
    assert (first.path, first.labels) == (f"{tmp_path}/Audios/MSP-PODCAST_0001_0001.wav", (3.1, 4.2, 5.0))
    assert [row.split for row in corpus.rows] == ["train", "validation", "test1", "test3"]
    assert corpus.rows[3].labels == (None, None, None)
    assert dict(corpus.left_out) == {"SpkrID 'Unknown'": 1}


def test_msp_podcast_without_a_sheet(tmp_path):
    with pytest.raises(DataError, match="holds neither labels_consensus.csv nor labels_concensus.csv"):
        read_corpus(SETTINGS | {"folder": str(tmp_path), "layout": "msp_podcast"})


def read_groups(folder, cells, groups=("sex",)):
    """The groups of speakers s 1 (train; rows 2 and 3) and s/2 (validation), whose rows have these cells."""
    rows = [[*GOOD[0], cells[0]], ["a2.wav", *GOOD[0][1:], cells[1]], [*GOOD[1], cells[2]]]
    return read_corpus(write(folder, [*HEADER, "sex"], rows) | {"groups": list(groups)}).groups


def test_groups_are_of_speakers(tmp_path):
    assert read_groups(tmp_path, ["f", "f", "m"]) == {"s 1": ("f",), "s/2": ("m",)}
    assert read_groups(tmp_path, ["f", "f", "m"], ()) == {}


def test_a_blank_cell_says_nothing_of_a_speaker(tmp_path):
    assert read_groups(tmp_path, ["", "f", ""]) == {"s 1": ("f",), "s/2": ("unknown",)}
    assert read_groups(tmp_path, ["f", "Unknown", "unknown"]) == {"s 1": ("f",), "s/2": ("unknown",)}


@pytest.mark.parametrize(
    ("cells", "groups", "message"),
    [
        (["f", "m", "m"], ["sex"], "row [23]: sex of speaker 's 1' is '[fm]', but '[fm]' in row [23]; a group is made"),
        (["f", "f", "m\n"], ["gender"], "column 'gender' is missing; the header has .*'sex'"),
        (["f", "a\tb", "m"], ["sex"], r"row 3: sex 'a\\tb' has the character U\+0009"),
    ],
    ids=["two values", "no such column", "control characters"],
)
def test_groups_that_cannot_be_are_named(tmp_path, cells, groups, message):
    with pytest.raises(DataError, match=message):
        read_groups(tmp_path, cells, groups)


def test_msp_podcast_has_a_gender(tmp_path):
    settings = write(tmp_path, MSP_HEADER, MSP_ROWS, f"Labels/{MSP_SHEETS[0]}") | {"layout": "msp_podcast"}
    for name in ("gender", "Gender"):
        corpus = read_corpus(settings | {"groups": [name]})
        assert corpus.groups == {"12": ("Female",), "13": ("Male",), "14": ("Male",), "15": ("Male",)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["a2.wav", "s" * 501, "train", 1, 2], "row 4: speaker 's{500}...' is not a speaker id: it has 501 characters"),
        (
            ["a2.wav", "s" * 130_000, "train", 1, 2],
            "is not a speaker id: it has 130,000 characters, expected 500 at most",
        ),
        (["a" * 501, "s 1", "train", 1, 2], "is not a path inside the audio folder: it has 501 characters"),
        (
            ["a2.wav", "s\x9b31m", "train", 1, 2],
            r"speaker 's\\x9b31m' is not a speaker id: it has the character U\+009B",
        ),
        (["gpj\u202e.wav", "s 1", "train", 1, 2], r"file 'gpj\\u202e.wav' is not a path .* has the character U\+202E"),
        (["a2.wav", "s 1", "t" * 9_000, 1, 2], r"split 't{500}...' is unknown"),
        (["a2.wav", "s 1", "train", "1" * 9_000, 2], r"valence '1{500}...' is not a number"),
    ],
)
def test_names_have_an_end_and_no_hidden_characters(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read_corpus(write(tmp_path, HEADER, [*GOOD, row]))


def test_a_pipe_is_no_sheet(tmp_path):
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="labels.csv: is a folder, a device or a pipe; expected a file"):
        read_corpus(SETTINGS | {"folder": str(tmp_path)})
