"""Who is who in a sheet: ids that name nobody, and ids that look like one."""

import pytest
from test_audformat import make_database, save
from test_corpus import HEADER, MSP_HEADER, MSP_ROWS, MSP_SHEETS, write

from ser.corpus.sheet import read_corpus
from ser.corpus.speakers import find_alike, fold_name, match_names, names_nobody
from ser.files import DataError


def make_rows(*speakers, split="train"):
    rows = [[f"{split}{n}.wav", speaker, split, 1, 7] for n, speaker in enumerate(speakers)]
    return [*rows, ["v.wav", "other", "validation", 1, 7]]


ALIKE = [
    ("01", "1"), ("1.0", "1"), ("001", "1.00"), ("Spk_A", "spk_a"), ("spk a", "spk_a"), ("spk-a", "spka"), ("a_", "a"),
    ("spk_01", "SPK1"), ("F007", "f7"), ("STRASSE", "straße"), ("\u00e9va", "e\u0301va"), ("\uff11", "1"),
]  # fmt: skip
APART = [
    ("1_10", "11_0"), ("1-0", "10"), ("10", "1"), ("1.05", "1.5"), ("a1", "a2"), ("a", "ä"), ("1_1", "11"),
]  # fmt: skip
NOBODY = ["", "nan", "None", "NA", "n/a", "NULL", "-", "?", "????", "unknown", "Unknown", "--"]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_two_spellings_stop_the_run_with_both_rows(tmp_path, one, other):
    settings = write(tmp_path, HEADER, make_rows("x", one, other))
    with pytest.raises(DataError) as caught:
        read_corpus(settings)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(
        f"{tmp_path}/labels.csv, row 4: speaker {other!r} may be {one!r} of {tmp_path}/labels.csv, row 3"
    )
    assert "corpus.speakers_differ" in line
    for allowed in ([other], [one], True):
        assert {row.speaker_id for row in read_corpus(settings | {"speakers_differ": allowed}).rows} >= {one, other}


@pytest.mark.parametrize(("one", "other"), APART)
def test_ids_that_only_begin_alike_are_two(tmp_path, one, other):
    assert {one, other} <= {row.speaker_id for row in read_corpus(write(tmp_path, HEADER, make_rows(one, other))).rows}


def test_across_splits_too(tmp_path):
    rows = [*make_rows("1"), ["t.wav", "01", "test", 1, 7]]
    with pytest.raises(DataError, match="row 4: speaker '01' may be '1' of .*row 2"):
        read_corpus(write(tmp_path, HEADER, rows))


@pytest.mark.parametrize("nobody", NOBODY)
def test_nobody_is_left_out_and_counted(tmp_path, nobody):
    rows = [*make_rows("x", nobody), ["t.wav", nobody, "test", "", ""]]  # in two splits, and without a label
    corpus = read_corpus(write(tmp_path, HEADER, rows))
    assert [row.speaker_id for row in corpus.rows] == ["x", "other"]
    assert corpus.left_out == {f"speaker {nobody!r}": 2}


def test_what_names_nobody_is_the_config_s_to_say(tmp_path):
    settings = write(tmp_path, HEADER, make_rows("Na", "Nan", "guest")) | {"unknown_speakers": ["Guest"]}
    corpus = read_corpus(settings)
    assert {row.speaker_id for row in corpus.rows} == {"Na", "Nan", "other"} and corpus.left_out == {
        "speaker 'guest'": 1
    }


def test_msp_podcast(tmp_path):
    rows = [*MSP_ROWS, ["MSP-PODCAST_0005_0001.wav", "N", "4.2", "3.1", "5.0", "012", "Female", "Train"]]
    settings = write(tmp_path, MSP_HEADER, rows, f"Labels/{MSP_SHEETS[0]}") | {"layout": "msp_podcast"}
    with pytest.raises(DataError, match="row 7: speaker '012' may be '12' of .*row 2: give a speaker one spelling"):
        read_corpus(settings)
    rows[-1][5] = "nan"
    settings = write(tmp_path, MSP_HEADER, rows, f"Labels/{MSP_SHEETS[0]}") | {"layout": "msp_podcast"}
    assert read_corpus(settings).left_out == {"SpkrID 'Unknown'": 1, "SpkrID 'nan'": 1}


def test_audformat(tmp_path):
    settings = save(make_database(), tmp_path)
    path = tmp_path / "db.files.csv"
    path.write_text(path.read_text().replace("wav/3b.wav,3", "wav/3b.wav,03").replace("wav/8b.wav,8", "wav/8b.wav,NA"))
    with pytest.raises(
        DataError, match="row 3 of db.emotion.train.csv: speaker '03' may be '3' of .*row 2 of db.emotion"
    ):
        read_corpus(settings)
    corpus = read_corpus(settings | {"speakers_differ": ["3"]})
    assert corpus.left_out == {"speaker 'NA'": 1}


def test_names_are_folded_and_matched():
    assert fold_name(" Spk_01 ") == fold_name("spk 1") == "spk1"
    assert names_nobody("????", set()) and not any(names_nobody(name, set()) for name in ("s?", "..", "😀"))
    assert match_names(["3.0", "04", "x"], ["3", "4", "004"]) == {"3": "3", "4": "4", "004": "004", "3.0": "3"}
    assert find_alike({"a": "row 2", "b": "row 3"}, []) == []
