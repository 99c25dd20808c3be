"""All that is computed of an utterance that is a part of a file equals that of a file cut there."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from made_shard import AUDIO, OPTIONS
from test_hubert import TINY, make

from ser.adaptation.adapt import _read_utterances
from ser.adaptation.batches import Clip as Crop
from ser.adaptation.batches import Crops
from ser.adaptation.clusters import SCHEMA
from ser.audio import decode
from ser.audio.facts import FACTS, PART_FACTS, measure_shard
from ser.corpus.labels import build_labels
from ser.corpus.metadata import describe_corpus
from ser.encoders.embed import embed_shard
from ser.encoders.past import describe_audio, find_hearing
from ser.files import DataError, read_json, sha256
from ser.finetuning.finetune import _read_clips
from ser.finetuning.task import Clip, Waves
from ser.formats import manifest, tfrecord
from ser.formats.csv_files import format_rows
from ser.formats.manifest import COLUMNS, PART_COLUMNS, Utterance
from ser.formats.parquet import read_parquet, write_parquet

RATE, SECONDS = 44_100, 4.0
PARTS = {"long.wav": (None, None), "long.wav#t=0,1.25": (0.0, 1.25), "long.wav#t=0.5,2.1": (0.5, 2.1)}
PARTS |= {"long.wav#t=2.1": (2.1, None), "long.wav#t=2.5,4": (2.5, 4.0)}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A stereo recording, and the file that each part would be if it were cut out: `{id: path}`."""
    folder = tmp_path_factory.mktemp("recording")
    noise = (
        np.random.default_rng(1).normal(0, 0.1, (int(RATE * SECONDS), 2))
        * np.linspace(0.2, 1, int(RATE * SECONDS))[:, None]
    )
    soundfile.write(folder / "long.wav", noise, RATE, subtype="PCM_16")
    samples, _ = soundfile.read(folder / "long.wav", dtype="int16")
    cut = {}
    for number, (name, (start, end)) in enumerate(PARTS.items()):
        cut[name] = folder / f"{number}.wav"
        first, last = round((start or 0) * RATE), len(samples) if end is None else round(end * RATE)
        soundfile.write(cut[name], samples[first:last], RATE, subtype="PCM_16")
    return folder, cut


def list_both(recording, names=PARTS):
    """The utterances as parts, and as files of their own."""
    folder, cut = recording
    path = folder / "long.wav"
    parts = [Utterance(name, str(path), "s", sha256(path), *PARTS[name]) for name in sorted(names)]
    return parts, [Utterance(u.utterance_id, str(cut[u.utterance_id]), "s", sha256(cut[u.utterance_id])) for u in parts]


def write_manifest(path, utterances):
    path.write_text(format_rows(PART_COLUMNS, [(*u[:4], *map(manifest.format_time, u[4:])) for u in utterances]))
    assert manifest.read(path) == utterances
    return path


def equal(one, other):
    for record, same in zip(one, other, strict=True):
        assert record.utterance_id == same.utterance_id
        np.testing.assert_allclose(record.embedding, same.embedding, atol=1e-4)


def test_what_is_embedded_of_a_part_is_that_of_a_file_cut_there(recording, tmp_path, caplog):
    """And a part whose times change is embedded again, the others are not."""
    make(tmp_path / "encoder", **TINY)
    options = OPTIONS | {"frames_layer": 1, "reuse_dir": tmp_path / "reuse"}

    def embed(name, utterances, **more):
        shard = write_manifest(tmp_path / "shard-000.csv", utterances)
        paths = [tmp_path / f"{name}.{kind}.tfrecord" for kind in ("pooled", "frames")]
        embed_shard(shard, tmp_path / "encoder", *paths, **options | more)
        return [list(tfrecord.read(path)) for path in paths]

    parts, files = list_both(recording)
    found, expected = embed("parts", parts), embed("files", files, reuse_dir=None)
    assert [len(each) for each in found] == [len(PARTS)] * 2
    for one, other in zip(found, expected, strict=True):
        equal(one, other)
    assert {r.n_frames for r in found[0]} == {199, 62, 79, 94, 74}  # (samples - 400) // 320 + 1
    moved = [u for u in parts if u.end != 1.25] + [
        parts[0]._replace(utterance_id="long.wav#t=0,1.5", start=0.0, end=1.5)
    ]
    caplog.set_level("INFO")
    embed("moved", sorted(moved))
    assert "4 reused, 1 embedded, 0 rejected" in caplog.text


def test_facts_and_mfccs_of_a_part_are_those_of_a_file_cut_there(recording, tmp_path):
    measured = []
    for number, utterances in enumerate(list_both(recording)):
        shard = write_manifest(tmp_path / f"{number}.csv", utterances)
        measure_shard(shard, tmp_path / f"{number}.parquet", tmp_path / f"{number}.json", **AUDIO)
        measured.append((read_parquet(tmp_path / f"{number}.parquet"), read_json(tmp_path / f"{number}.json")))
    (facts, speakers), (others, expected) = measured
    assert (facts.schema, others.schema) == (PART_FACTS, FACTS)
    columns = ["utterance_id", "duration_s", "sample_rate", "channels", "peak", "rms_db", "status"]
    assert facts.select(columns) == others.select(columns) and set(facts["status"].to_pylist()) == {"ok"}
    assert dict(zip(facts["utterance_id"].to_pylist(), facts["duration_s"].to_pylist(), strict=True)) == pytest.approx(
        {
            "long.wav": 4,
            "long.wav#t=0,1.25": 1.25,
            "long.wav#t=0.5,2.1": 1.6,
            "long.wav#t=2.1": 1.9,
            "long.wav#t=2.5,4": 1.5,
        }
    )
    assert speakers == expected


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (2.0, 4.005, None),  # a sheet rounds
        (2.0, 4.5, "the file ends at 4.000 s"),
        (4.0, None, "the file ends at 4.000 s"),
        (1.0, 1.1, "too short: 0.100 s"),
    ],
)
def test_limits_are_those_of_the_part(recording, tmp_path, start, end, reason):
    (whole, *_), _ = list_both(recording)
    shard = write_manifest(tmp_path / "0.csv", [whole._replace(start=start, end=end)])
    measure_shard(shard, tmp_path / "0.parquet", tmp_path / "0.json", **AUDIO | {"max_seconds": 3})
    (row,) = read_parquet(tmp_path / "0.parquet").to_pylist()
    assert (row["status"] == "ok") == (reason is None) and (reason or "") in row["reason"]


def test_a_file_of_many_parts_is_hashed_once_until_it_changes(recording, tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(recording[0].joinpath("long.wav").read_bytes())
    source = {"path": str(tmp_path / "a.wav"), "sha256": sha256(tmp_path / "a.wav"), "start": 1.0, "stop": 2.0}
    monkeypatch.setattr(decode, "SETTLED_NS", -(10**12))  # as if the file had been there for long
    decode.load(**source, **AUDIO)
    monkeypatch.setattr(decode.hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    decode.load(**source | {"start": 2.0, "stop": 3.0}, **AUDIO)
    monkeypatch.undo()
    (tmp_path / "a.wav").write_bytes(b"other")
    with pytest.raises(DataError, match="changed while the run was going on"):
        decode.load(**source, **AUDIO)


def test_fine_tuning_hears_the_part(recording, tmp_path):
    parts, files = list_both(recording)
    measure_shard(write_manifest(tmp_path / "0.csv", parts), tmp_path / "facts", tmp_path / "0.json", **AUDIO)
    (tmp_path / "labels.csv").write_text(
        format_rows(["utterance_id", "speaker_id", "valence"], [(u.utterance_id, "s", 2.0) for u in parts])
    )
    build_labels(tmp_path / "labels.csv", tmp_path / "labels.parquet", ["valence"])
    given = SimpleNamespace(labels=tmp_path / "labels.parquet", speakers=[], vectors=[], facts=[tmp_path / "facts"])
    clips = _read_clips(given, SimpleNamespace(reads_speakers=False), ["valence"])
    assert [clip.content for clip in clips] == [u.content for u in parts]
    assert [clip.seconds for clip in clips] == pytest.approx([4, 1.25, 1.6, 1.9, 1.5])
    cut = [Clip(u.utterance_id, "s", u.path, u.sha256, 1.0, clip.labels) for u, clip in zip(files, clips, strict=True)]
    plan = [np.arange(len(parts))]
    heard, expected = (Waves(each, plan, 1.3, AUDIO, True)[0]["waves"] for each in (clips, cut))
    for one, other in zip(heard, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pre_training_hears_the_part(recording, tmp_path):
    parts, files = list_both(recording)
    rows = [u._asdict() | {"labels": np.zeros(60, np.uint16)} for u in parts]
    write_parquet(
        tmp_path / "labels.parquet", pa.Table.from_pylist([{n: r[n] for n in SCHEMA.names} for r in rows], SCHEMA)
    )
    read = _read_utterances([str(write_manifest(tmp_path / "0.csv", parts))], [str(tmp_path / "labels.parquet")])
    assert [utterance for utterance, _ in read] == parts
    settings = {"crop_seconds": 1.0, "mask_probability": 0.5, "mask_length": 10}
    heard, expected = (
        Crops(
            [Crop(u, labels, []) for u, (_, labels) in zip(each, read, strict=True)], plan, settings, AUDIO, True, [1]
        )[0]
        for each in (parts, files)
        for plan in [[np.arange(len(parts))]]
    )
    np.testing.assert_array_equal(heard["waves"], expected["waves"])


def test_who_heard_a_part_has_not_heard_another(recording, tmp_path):
    (whole, first, middle, last, end), _ = list_both(recording)
    described = describe_audio("train", [first.content])
    assert described.lines == {f"{first.sha256[:16]} 0 1.25"}
    described.write(tmp_path)
    split = tmp_path / "test"
    split.mkdir()
    for utterance, heard in {whole: True, first: True, middle: True, last: False, end: False}.items():
        shard = write_manifest(split / "shard-000.csv", [utterance])
        assert find_hearing({"tapt": "e"}, {"e": tmp_path / "heard.txt"}, [str(shard)]) == ["tapt"] * heard
    describe_audio("train", [whole.content]).write(tmp_path)
    assert find_hearing({"tapt": "e"}, {"e": tmp_path / "heard.txt"}, [str(shard)]) == ["tapt"]


def test_tables_for_people_say_where_parts_are(recording, tmp_path):
    parts, files = list_both(recording)
    facts, labels = [], []
    for split, shards in {"train": [parts, files[:0]], "test": [files]}.items():
        ids = []
        for number, utterances in enumerate(shards):
            path = tmp_path / split / f"shard-{number:03d}.parquet"
            path.parent.mkdir(exist_ok=True)
            shard = tmp_path / f"{split}.csv"
            shard.write_text(format_rows(COLUMNS, [u[:4] for u in utterances]))
            shard = shard if split == "test" or not utterances else write_manifest(shard, utterances)
            measure_shard(shard, path, tmp_path / "0.json", **AUDIO)
            facts.append(path)
            ids += [(u.utterance_id, "s", 2.0) for u in utterances]
        (tmp_path / "labels.csv").write_text(format_rows(["utterance_id", "speaker_id", "valence"], ids))
        labels.append(tmp_path / f"{split}.parquet")
        build_labels(tmp_path / "labels.csv", labels[-1], ["valence"])
    describe_corpus(facts, labels, tmp_path / "utterances.parquet", tmp_path / "rejected.csv", "corpus")
    found = read_parquet(tmp_path / "utterances.parquet").to_pylist()
    assert [(r["utterance_id"], r["start"], r["end"]) for r in found if r["split"] == "train"] == [
        (u.utterance_id, u.start, u.end) for u in parts
    ]
    assert {(r["start"], r["end"]) for r in found if r["split"] == "test"} == {(None, None)}
