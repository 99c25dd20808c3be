"""Paths as people write them into sheets, and recordings that are there twice."""

import os
import shutil
import unicodedata

import pytest
from made_corpus import DEFAULTS, make_corpus, read_sheet, write_sheet

from ser.corpus import index
from ser.corpus.recordings import read_recordings
from ser.files import DataError, sha256
from ser.formats import manifest

SETTINGS = DEFAULTS | {"folder": "corpus", "shards": 1}
FIRST = "train_0/u0.wav"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ser.corpus.file_hashes._SETTLED_NS", -(10**12))  # as if the files had been there for long
    make_corpus(tmp_path / "corpus", utterances=2, speakers={"train": 2, "validation": 1, "test": 1})
    return tmp_path / "corpus"


def change(corpus, **cells):
    """Write other cells into the first row."""
    rows = read_sheet(corpus)
    rows[0] |= cells
    write_sheet(corpus, rows)


def list_train():
    return {row.utterance_id: row for row in manifest.read(index.FOLDER / "train" / "shard-000.csv")}


@pytest.mark.parametrize(
    ("cell", "on_disk", "utterance"),
    [
        ("{corpus}/audio/train_0/u0.wav", FIRST, FIRST),
        ("{corpus}/audio/../audio/train_0/u0.wav", FIRST, FIRST),
        ("train_0\\u0.wav", FIRST, "train_0\\u0.wav"),
        ("audio\\train_0\\u0.wav", FIRST, "audio\\train_0\\u0.wav"),
        ("audio/train_0/u0.wav", FIRST, "audio/train_0/u0.wav"),
        ("corpus/audio/train_0/u0.wav", FIRST, "corpus/audio/train_0/u0.wav"),
        ("train_0/u0", FIRST, "train_0/u0"),
        ("train_0/u0.WAV", FIRST, "train_0/u0.WAV"),
        ("train_0/u0.wav", "train_0/u0.Wav", FIRST),
        ("train_0/\u00e9.wav", "train_0/e\u0301.wav", "train_0/\u00e9.wav"),
        ("train_0/e\u0301.wav", "train_0/\u00e9.wav", "train_0/e\u0301.wav"),
        ("train_0/e\u0301.WAV", "train_0/\u00e9.wav", "train_0/e\u0301.WAV"),
    ],
)
def test_a_path_that_one_file_fits_is_read(corpus, capsys, cell, on_disk, utterance):
    (corpus / "audio" / FIRST).rename(corpus / "audio" / on_disk)
    (corpus / "audio/train_0/u0.txt").write_text("what was said")  # no audio, so that it is not meant
    cell = cell.format(corpus=corpus)
    change(corpus, file=cell)
    index.build(SETTINGS, {})
    row = list_train()[utterance]
    assert row.path == f"corpus/audio/{on_disk}" and row.sha256 == sha256(row.path)
    warned = f"that alone fit, {cell!r} in row 2 as {on_disk!r}" in capsys.readouterr().err
    assert warned == (not cell.startswith("/"))
    before = (index.FOLDER / "audio_digests.parquet").stat().st_mtime_ns
    index.build(SETTINGS, {})
    assert list_train()[utterance] == row
    assert (index.FOLDER / "audio_digests.parquet").stat().st_mtime_ns == before, "nothing is hashed again"


def test_a_path_as_it_is_on_disk_comes_first(corpus):
    """Case matters where the file system says so: no other file is looked for."""
    shutil.copy(corpus / "audio/train_0/u0.wav", corpus / "audio/train_0/U0.WAV")
    index.build(SETTINGS, {})
    assert list_train()[FIRST].path == "corpus/audio/train_0/u0.wav"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("train_0/u00.wav", r"row 2: corpus/audio/train_0/u00.wav is not on disk; the nearest is 'train_0/u0.wav'"),
        ("train_O/u0.wav", r"row 2: .* is not on disk; the nearest is 'train_./u0.wav'"),
        ("train_0/take", r"is not on disk; it may be 'train_0/take.flac' or 'train_0/take.wav'"),
        ("train_0/u1.WAV", r"row 2: 'train_0/u1.WAV' is corpus/audio/train_0/u1.wav, which is listed already in row 3"),
        ("/elsewhere/audio/train_0/u0.wav", r"file '/elsewhere/.*' is not a path inside the audio folder"),
        ("..\\..\\audio\\train_0\\u0.wavx", r"is not on disk"),
    ],
)
def test_a_path_that_none_or_several_fit_is_named(corpus, cell, message):
    for suffix in ("wav", "flac"):
        (corpus / f"audio/train_0/take.{suffix}").write_bytes(suffix.encode())
    change(corpus, file=cell)
    with pytest.raises(DataError, match=message):
        index.build(SETTINGS, {})


def test_a_folder_without_files_is_named(corpus):
    with pytest.raises(DataError, match="is not on disk; there is no file in corpus/sound"):
        index.build(SETTINGS | {"audio": "sound"}, {})


def test_recordings_to_score_are_found_too(tmp_path):
    (tmp_path / "e\u0301.wav").write_bytes(b"x")
    (tmp_path / "who.csv").write_text("file,speaker\n\u00e9.WAV,a\n")
    (row,) = read_recordings("scored.guests", {"folder": str(tmp_path), "sheet": "who.csv"})
    assert row[:3] == ("\u00e9.WAV", f"{tmp_path}/" + unicodedata.normalize("NFD", "\u00e9.wav"), "guests/a")


def copy(corpus, source, target, **cells):
    """A row more, whose file has the content of another."""
    shutil.copy(corpus / "audio" / source, corpus / "audio" / target)
    rows = read_sheet(corpus)
    write_sheet(corpus, [*rows, rows[0] | {"file": target} | cells])


def test_a_recording_in_two_splits_stops_the_run(corpus):
    copy(corpus, FIRST, "test_0/again.wav", split="test", speaker="test 0")
    message = "row 2: train_0/u0.wav is in split 'train', but test_0/again.wav of row 10 in 'test', and they have the"
    with pytest.raises(DataError, match=message):
        index.build(SETTINGS, {})


def test_a_recording_of_two_speakers_stops_the_run(corpus):
    copy(corpus, FIRST, "train_1/again.wav", speaker="train 1")
    message = "row 10: train_1/again.wav is of speaker 'train 1', but train_0/u0.wav of 'train 0' in row 2 has the same"
    with pytest.raises(DataError, match=message):
        index.build(SETTINGS, {})


def test_a_recording_twice_of_one_speaker_is_counted(corpus, capsys):
    copy(corpus, FIRST, "train_0/again.wav")
    index.build(SETTINGS, {})
    assert "warning: corpus/labels.csv: a row repeats a recording of their split, as row 2 that of row 10" in (
        capsys.readouterr().err
    )
    assert len(list_train()) == 5


def test_empty_files_are_no_recordings(corpus):
    for place in ("train_1", "test_0"):
        (corpus / "audio" / place / "u0.wav").write_bytes(b"")
    index.build(SETTINGS, {})


def test_an_unchanged_corpus_is_not_read_again(corpus, monkeypatch):
    """And one with any change is."""
    first = index.build(SETTINGS, {})
    read = index.read_corpus
    monkeypatch.setattr(index, "read_corpus", lambda _: pytest.fail("read again"))
    assert index.build(SETTINGS, {}) == first
    calls = []
    monkeypatch.setattr(index, "read_corpus", lambda settings: calls.append(settings) or read(settings))

    def build(**settings):
        calls.clear()
        index.build(SETTINGS | settings, {})
        assert calls, "read again"
        calls.clear()
        return index.build(SETTINGS | settings, {}), len(calls)

    assert build(label_range=[0, 7])[1] == 0
    assert build() == (first, 0)
    change(corpus, valence="1.5")
    second, calls_more = build()
    assert calls_more == 0 and second.labels != first.labels
    (index.FOLDER / "train/labels.csv").write_text("")
    assert build()[1] == 0 and (index.FOLDER / "train/labels.csv").stat().st_size
    os.utime(corpus / "audio" / FIRST, ns=(0, 0))
    assert build() == (second, 0)
    (corpus / "audio" / FIRST).write_bytes(b"other" * 99)
    assert build()[0].shards["train"] != second.shards["train"]
    (corpus / "audio" / FIRST).unlink()
    with pytest.raises(DataError, match="u0.wav is not on disk"):
        index.build(SETTINGS, {})
