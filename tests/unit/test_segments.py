"""Utterances that are parts of files: in sheets, ids, manifests, lists of recordings and exports."""

import audformat
import numpy as np
import pandas
import pyarrow as pa
import pytest
import soundfile
from made_corpus import DEFAULTS
from test_corpus import HEADER, SETTINGS, write

from ser.corpus import index
from ser.corpus.labels import build_labels
from ser.corpus.recordings import read_recordings
from ser.corpus.segments import parse_part, split_part
from ser.corpus.sheet import read_corpus
from ser.files import DataError, sha256
from ser.formats import manifest
from ser.formats.csv_files import format_rows
from ser.formats.parquet import write_parquet
from ser.report.audformat_export import export_predictions

TIMED = [*HEADER, "start", "end"]


def read_rows(folder, *cells):
    rows = [[file, "a", "train", 1, 7, start, end] for file, start, end in cells]
    return read_corpus(write(folder, TIMED, [*rows, ["v.wav", "b", "validation", 1, 7, "", ""]]))


@pytest.mark.parametrize(
    ("start", "end", "name", "part"),
    [
        ("", "", "a.wav", (None, None)),
        ("0", "NaT", "a.wav", (None, None)),
        ("0.0", "3.25", "a.wav#t=0,3.25", (0.0, 3.25)),
        ("", "3.250", "a.wav#t=0,3.25", (0.0, 3.25)),
        ("1.5", "3.25", "a.wav#t=1.5,3.25", (1.5, 3.25)),
        ("1.5", "nan", "a.wav#t=1.5", (1.5, None)),
        ("1e1", "20", "a.wav#t=10,20", (10.0, 20.0)),
        ("0.1", "0.30000000000000004", "a.wav#t=0.1,0.3", (0.1, 0.3)),
        ("0 days 00:00:01.500000", "0 days 00:01:00", "a.wav#t=1.5,60", (1.5, 60.0)),
        ("00:01:02.25", "1:02:03", "a.wav#t=62.25,3723", (62.25, 3723.0)),
    ],
)
def test_a_row_is_a_part_of_a_file(tmp_path, start, end, name, part):
    row = read_rows(tmp_path, ("a.wav", start, end)).rows[0]
    assert (row.utterance_id, row.path, (row.start, row.end)) == (name, f"{tmp_path}/audio/a.wav", part)
    assert split_part(name) == ("a.wav", part[0] or 0.0, part[1])


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2", "2", r"row 3: 'a.wav' starts at 2 s and ends at 2 s; expected an end after the start"),
        ("3", "2", r"row 3: 'a.wav' starts at 3 s and ends at 2 s"),
        ("-1", "2", r"row 3: 'a.wav' has the start '-1'; expected seconds from the file's beginning"),
        ("1", "inf", r"has the end 'inf'"),
        ("soon", "", r"has the start 'soon'"),
        ("1_0", "", r"has the start '1_0'"),
        ("0", "1.0", r"row 3: file 'a.wav' is listed already in row 2"),
    ],
)
def test_times_that_cannot_be_are_named(tmp_path, start, end, message):
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path, ("a.wav", "", "1"), ("a.wav", start, end))


def test_a_file_that_is_called_as_a_part_of_another_is_named(tmp_path):
    with pytest.raises(DataError, match="row 3: 'a.wav#t=1,2' is also what row 2 is called; rename a file"):
        read_rows(tmp_path, ("a.wav", "1", "2"), ("a.wav#t=1,2", "", ""))


def test_columns_of_times_can_have_other_names(tmp_path):
    rows = [["a.wav", "a", "train", 1, 7, 1.5], ["b.wav", "b", "validation", 1, 7, ""]]
    settings = write(tmp_path, [*HEADER, "from"], rows)
    assert read_corpus(settings).rows[0].utterance_id == "a.wav"
    assert read_corpus(settings | {"columns": {"start": "from"}}).rows[0].utterance_id == "a.wav#t=1.5"


@pytest.mark.parametrize("storage_format", ["csv", "parquet"])
@pytest.mark.parametrize("speakers", ["filewise", "segmented"])
def test_a_segmented_database(tmp_path, storage_format, speakers):
    """One file is whole, of another two speakers have parts; the last of them goes to the file's end."""
    files, starts, ends = ["a.wav", "d.wav", "d.wav", "v.wav"], [0, 0.5, 1.5, 0], [pandas.NaT, 1.5, pandas.NaT, 2]
    whole = audformat.segmented_index(files, starts, ends)
    database = audformat.Database("parts")
    for name in ("valence", "arousal"):
        database.schemes[name] = audformat.Scheme("float")
    database.schemes["speaker"] = audformat.Scheme("str")
    database["emotion"] = audformat.Table(whole)
    for name in ("valence", "arousal"):
        database["emotion"][name] = audformat.Column(scheme_id=name)
        database["emotion"][name].set([1.0, 2.0, 3.0, 7.0])
    if speakers == "segmented":
        database["files"] = audformat.Table(whole[1:])
        who, split = ["x", "y", "z"], ["train", "train", "dev"]
        database["more"] = audformat.Table(audformat.filewise_index(["a.wav"]))
        for name, value in {"speaker": "x", "split": "train"}.items():
            database["more"][name] = audformat.Column()
            database["more"][name].set([value])
    else:
        database["files"] = audformat.Table(audformat.filewise_index(["a.wav", "d.wav", "v.wav"]))
        who, split = ["x", "x", "z"], ["train", "train", "dev"]
    for name, values in {"speaker": who, "split": split}.items():
        database["files"][name] = audformat.Column()
        database["files"][name].set(values)
    database.save(tmp_path, storage_format=storage_format)
    settings = SETTINGS | {"folder": str(tmp_path), "layout": "audformat", "tables": "emotion"}
    found = [(r.utterance_id, r.speaker_id, r.split, r.labels[0], r.start, r.end) for r in read_corpus(settings).rows]
    assert found == [
        ("a.wav", "x", "train", 1.0, None, None),
        ("d.wav#t=0.5,1.5", "x", "train", 2.0, 0.5, 1.5),
        ("d.wav#t=1.5", "y" if speakers == "segmented" else "x", "train", 3.0, 1.5, None),
        ("v.wav#t=0,2", "z", "validation", 7.0, 0.0, 2.0),
    ]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus/audio").mkdir(parents=True)
    for number, name in enumerate(["long.wav", "v.wav", "t.wav"]):
        soundfile.write(tmp_path / "corpus/audio" / name, np.random.default_rng(number).normal(0, 0.1, 64_000), 16_000)
    return tmp_path / "corpus"


def build(folder, *rows):
    whole = [["v.wav", "b", "validation", 1, 7, "", ""], ["t.wav", "c", "test", 1, 7, "", ""]]
    write(folder, TIMED, [*rows, *whole])
    settings = DEFAULTS | {"folder": "corpus", "targets": ["valence", "arousal"], "shards": 1}
    return index.build(settings, {}), index.FOLDER


def part(start, end, speaker="a", split="train", file="long.wav"):
    return [file, speaker, split, 1, 7, start, end]


def test_manifests_say_where_parts_are_and_others_stay_as_they_were(corpus):
    built, folder = build(corpus, part(0.5, 2), part(2, ""))
    digest = sha256(corpus / "audio/long.wav")
    assert (folder / "train/shard-000.csv").read_text() == (
        "utterance_id,path,speaker_id,sha256,start,end\n"
        f'"long.wav#t=0.5,2",corpus/audio/long.wav,a,{digest},0.5,2\n'
        f"long.wav#t=2,corpus/audio/long.wav,a,{digest},2,\n"
    )
    assert (folder / "test/shard-000.csv").read_text() == (
        f"utterance_id,path,speaker_id,sha256\nt.wav,corpus/audio/t.wav,c,{sha256(corpus / 'audio/t.wav')}\n"
    )
    assert (folder / "train/labels.csv").read_text().splitlines()[1] == '"long.wav#t=0.5,2",a,1.0,7.0'
    moved, _ = build(corpus, part(0.5, 2), part(2.5, ""))
    assert moved.shards["test"] == built.shards["test"] and moved.shards["train"] != built.shards["train"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [part(0, 2), part(1.5, 3, "d", "test")],
            "is in split 'test', but long.wav#t=0,2 of row 2 in 'train', and they",
        ),
        ([part(0, 2), part(1.5, "", "d", "test")], "is in split 'test', but long.wav#t=0,2"),
        ([part("", ""), part(1, 3, "d", "test")], "is in split 'test', but long.wav of row 2 in 'train'"),
        (
            [part(0, 2), part(0, 2, "d", file="copy.wav")],
            "row 2: long.wav#t=0,2 is of speaker 'a', but copy.wav#t=0,2 of 'd' in row 3 has",
        ),
    ],
)
def test_parts_that_two_splits_or_speakers_share_stop_the_run(corpus, rows, message):
    (corpus / "audio/copy.wav").write_bytes((corpus / "audio/long.wav").read_bytes())
    with pytest.raises(DataError, match=message):
        build(corpus, *rows)


def test_parts_may_touch_and_speakers_of_a_split_may_overlap(corpus):
    build(corpus, part(0, 2), part(1.5, 2.5, "e"), part(2.5, 4, "d", "test"), part(2.495, 2.6, "f", "test"))


def test_recordings_to_score_may_be_parts(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"x")
    (tmp_path / "who.csv").write_text("file,speaker,end,start\na.wav,m,2.5,1\na.wav,n,,2.5\n")
    found = read_recordings("scored.guests", {"folder": str(tmp_path), "sheet": "who.csv"})
    path = f"{tmp_path}/a.wav"
    assert [tuple(row) for row in found] == [
        ("a.wav#t=1,2.5", path, "guests/m", 1.0, 2.5), ("a.wav#t=2.5", path, "guests/n", 2.5, None)
    ]  # fmt: skip
    (tmp_path / "who.csv").write_text("file,speaker,end\na.wav,m,-2\n")
    with pytest.raises(DataError, match="who.csv, row 2: file has the end '-2'; expected seconds"):
        read_recordings("scored.guests", {"folder": str(tmp_path), "sheet": "who.csv"})


def test_parts_are_exported_as_segments(tmp_path):
    names = ["a.wav", "d.wav#t=1.5", "d.wav#t=0,1.5", "d.wav#t=0.25,3723.000000001"]
    (tmp_path / "labels.csv").write_text(
        format_rows(["utterance_id", "speaker_id", "valence"], [(name, "s", n) for n, name in enumerate(names)])
    )
    build_labels(tmp_path / "labels.csv", tmp_path / "labels.parquet", ["valence"])
    folder = tmp_path / "calibrated/base/seed-1"
    folder.mkdir(parents=True)
    calibrated = {"utterance_id": names, "speaker_id": ["s"] * 4, "calibration": ["none"] * 4, "valence": [1.0] * 4}
    write_parquet(folder / "test.parquet", pa.table(calibrated))
    export_predictions(
        {"test": tmp_path / "labels.parquet"},
        [str(folder / "test.parquet")],
        "none",
        ["valence"],
        [0, 7],
        tmp_path / "db.yaml",
    )
    database = audformat.Database.load(tmp_path, load_data=True)
    expected = audformat.segmented_index(
        ["a.wav", "d.wav", "d.wav", "d.wav"],
        [0, 1.5, 0, 0.25],
        [pandas.NaT, pandas.NaT, 1.5, pandas.Timedelta(3723000000001)],
    )
    found = database["labels.test"].get()["valence"]
    assert found.loc[expected].tolist() == [0, 1, 2, 3]
    assert set(database["files"].index) == set(database["predictions.test.seed-1"].index) == set(expected)


def test_times_are_read_to_a_nanosecond():
    assert parse_part("0 days 00:00:00.000000001", "1 days") == (1e-09, 86400.0)
    assert manifest.format_time(1e-9) == "0.000000001" and manifest.format_time(86400.0) == "86400"
