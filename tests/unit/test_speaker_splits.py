"""A split of one's own, over each layout."""

import pytest
from test_audformat import EXPECTED, make_database, save
from test_corpus import HEADER, MSP_HEADER, MSP_ROWS, MSP_SHEETS, write

from ser.corpus.sheet import read_corpus
from ser.files import DataError

ROWS = [[f"{speaker}{n}.wav", speaker, "train", "1", "7"] for speaker in "abcd" for n in range(2)]


def read(folder, text, settings=None):
    path = folder / "splits.csv"
    path.write_text(f"speaker,split\n{text}")
    settings = settings or write(folder, HEADER, ROWS)
    return read_corpus(settings | {"speaker_splits": str(path)})


def list_splits(corpus):
    return {row.speaker_id: row.split for row in corpus.rows}


def test_it_overrides_the_sheet_and_leaves_out_whom_it_does_not_name(tmp_path):
    corpus = read(tmp_path, "a,validation\nb,test\nc,train\n")
    assert list_splits(corpus) == {"a": "validation", "b": "test", "c": "train"}
    assert len(corpus.rows) == 6
    assert corpus.left_out == {"a speaker whom splits.csv does not name": 2}
    assert corpus.warnings == []


def test_the_sheet_needs_no_splits(tmp_path):
    settings = write(tmp_path, [c for c in HEADER if c != "split"], [[*row[:2], *row[3:]] for row in ROWS])
    assert list_splits(read(tmp_path, "a,validation\nc,train\n", settings)) == {"a": "validation", "c": "train"}


def test_a_speaker_whom_the_sheet_lacks_is_a_warning(tmp_path):
    text = "a,validation\nb,train\nc,train\nd,train\n"
    corpus = read(tmp_path, text + "x1,test\nx2,train\n")
    assert corpus.warnings == [f"{tmp_path}/splits.csv: 2 of its speakers are not in the sheet ('x1', 'x2')"]
    assert corpus.left_out == {}
    with pytest.raises(DataError, match="(?s)1 of its speakers are not in the sheet.*in split 'train'; training needs"):
        read(tmp_path, "a,validation\nx,train\n")


def test_msp_podcast(tmp_path):
    """The release's own splits decide nothing, and labels that it withholds only where they would be needed."""
    settings = write(tmp_path, MSP_HEADER, MSP_ROWS, f"Labels/{MSP_SHEETS[0]}") | {"layout": "msp_podcast"}
    text = "12,test-b\n13,train\n14,validation\n"
    corpus = read(tmp_path, text, settings | {"test_splits": ["test-b"]})
    assert list_splits(corpus) == {"12": "test-b", "13": "train", "14": "validation"}
    assert corpus.left_out == {"SpkrID 'Unknown'": 1, "a speaker whom splits.csv does not name": 1}
    with pytest.raises(DataError, match="EmoVal '' is not a number"):
        read(tmp_path, f"{text}15,train\n", settings | {"test_splits": ["test-b"]})


@pytest.mark.parametrize("tables", ["emotion", {"train": "emotion.train", "validation": "emotion.test"}])
def test_audformat(tmp_path, tables):
    settings = save(make_database(), tmp_path, tables=tables, columns={"split": "none such"})
    corpus = read(tmp_path, "3,test\n11,train\n12,validation\n", settings)
    wanted = {"3": "test", "11": "train", "12": "validation"}
    assert [(row.utterance_id, row.speaker_id, row.split, row.labels) for row in corpus.rows] == sorted(
        (file, speaker, wanted[speaker], labels) for file, speaker, _, labels in EXPECTED if speaker in wanted
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a,validation\nb,test9\n",
            r"splits.csv, row 3: split 'test9' is unknown; expected one of train, validation, t",
        ),
        ("a,train\nb,test\na,test\n", r"row 4: speaker 'a' is in split 'test', but in 'train' in row 2"),
        (",train\n", r"row 2: speaker '' is not a speaker id: it is empty"),
        ("a\n", r"splits.csv, row 2: has 1 cells; the header has 2"),
    ],
)
def test_rows_that_cannot_be_are_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path):
    settings = write(tmp_path, HEADER, ROWS) | {"speaker_splits": "nowhere.csv"}
    with pytest.raises(DataError, match="nowhere.csv: there is no such label sheet; set corpus.speaker_splits"):
        read_corpus(settings)
