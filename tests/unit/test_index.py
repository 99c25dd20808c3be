import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_corpus import DEFAULTS, TARGETS, make_corpus, read_sheet, write_sheet

from ser.corpus import index
from ser.corpus.file_hashes import hash_files
from ser.files import DataError, read_json, sha256
from ser.formats import manifest
from ser.formats.csv_files import format_rows, read_rows

SETTINGS = DEFAULTS | {"folder": "corpus", "shards": 2}
SPEAKERS = {"train": 3, "validation": 1, "test": 2}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_corpus(tmp_path / "corpus", utterances=2, speakers=SPEAKERS)
    return tmp_path / "corpus"


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.csv"))}


IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)  # the corpus refuses control characters


@given(st.lists(st.tuples(IDS, IDS, IDS)))
def test_a_manifest_reads_back_as_it_was(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("manifest") / "shard-000.csv"
    utterances = [manifest.Utterance(utterance, path_, speaker, "") for utterance, path_, speaker in rows]
    manifest.write_if_changed(path, format_rows(manifest.Utterance._fields, utterances))
    assert manifest.read(path) == utterances


def test_shard_of_is_the_documented_hash():
    # printf 'speaker 1' | sha256sum
    digest = "395a8e596565a15febc6d0b73d104ef2b895d687a98a19c2ea9590ca90314ba3"
    assert manifest.shard_of("speaker 1", 1000) == int(digest, 16) % 1000


def test_manifests_hold_every_utterance_once_sorted_with_its_hash(corpus):
    built = index.build(SETTINGS, {})
    seen = []
    for split, shards in built.shards.items():
        for shard in shards:
            rows = manifest.read(index.FOLDER / split / f"shard-{shard}.csv")
            assert rows == sorted(rows)
            for row in rows:
                assert row.sha256 == sha256(row.path)
                assert manifest.shard_of(row.speaker_id, 2) == int(shard)
                assert row.speaker_id.startswith(split)
            seen += [row.utterance_id for row in rows]
    assert sorted(seen) == sorted(row["file"] for row in read_sheet(corpus))


def test_labels_of_enrolled_utterances_are_cut_out(tmp_path, monkeypatch):
    """Of each draw and speaker the first by the hash written out again, with the labels of the sheet; no training."""
    monkeypatch.chdir(tmp_path)
    make_corpus(tmp_path / "corpus", utterances=5, speakers={"train": 2, "validation": 2, "test": 2})
    assert index.build(SETTINGS, {}).enrolment == {}
    built = index.build(SETTINGS, {}, None, 3, 2)
    assert set(built.enrolment) == {"validation", "test"} and index.load() == built
    assert not (index.FOLDER / "train" / "enrolment_labels.csv").exists()
    sheet = {row["file"]: row for row in read_sheet(tmp_path / "corpus")}
    speakers = {row["speaker"] for row in sheet.values() if row["split"] == "test"}
    expected = set()
    for draw in range(3):
        for speaker in speakers:
            own = [name for name, row in sheet.items() if row["speaker"] == speaker]
            order = sorted(own, key=lambda name: hashlib.sha256(f"{draw} {name}".encode()).hexdigest())
            expected |= {(str(draw), name, speaker, *(float(sheet[name][t]) for t in TARGETS)) for name in order[:2]}
    found = read_rows(index.FOLDER / "test" / "enrolment_labels.csv")
    names = ("draw", "utterance_id", "speaker_id")
    assert {(*(row[n] for n in names), *(float(row[t]) for t in TARGETS)) for row in found} == expected
    assert len(found) == 3 * 2 * 2
    index.settle(index.build(SETTINGS, {}))  # no method enrols with labels any more
    assert not list(index.FOLDER.glob("*/enrolment_labels.csv"))


def test_only_content_moves_a_manifest(corpus):
    first = index.build(SETTINGS, {})
    before = stamps(index.FOLDER)
    for path in corpus.rglob("*"):
        os.utime(path)
    assert index.build(SETTINGS, {}) == first
    assert stamps(index.FOLDER) == before

    changed = corpus / "audio" / "test_1" / "u0.wav"
    old = changed.stat()
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    os.utime(changed, ns=(old.st_atime_ns, old.st_mtime_ns - 10**12))  # the same size and an older time
    second = index.build(SETTINGS, {})
    moved = {path for path, stamp in stamps(index.FOLDER).items() if before[path] != stamp}
    shard = f"shard-{manifest.shard_of('test 1', 2):03d}"
    assert moved == {index.FOLDER / "test" / f"{shard}.csv"}
    assert second.shards["train"] == first.shards["train"] and second.shards["test"] != first.shards["test"]
    assert second.labels == first.labels


def test_a_label_moves_its_split_alone(corpus):
    first = index.build(SETTINGS, {})
    before = stamps(index.FOLDER)
    rows = read_sheet(corpus)
    next(row for row in rows if row["split"] == "test")["valence"] = "1.5"
    write_sheet(corpus, rows)
    second = index.build(SETTINGS, {})
    assert second.shards == first.shards
    moved = {path for path, stamp in stamps(index.FOLDER).items() if before[path] != stamp}
    assert moved == {index.FOLDER / "test" / "labels.csv"}


def test_a_shard_without_speakers_goes(corpus):
    index.build(SETTINGS, {})
    rows = read_sheet(corpus)
    shard = manifest.shard_of("test 1", 2)
    gone = {f"test {i}" for i in range(2) if manifest.shard_of(f"test {i}", 2) == shard}
    write_sheet(corpus, [row for row in rows if row["speaker"] not in gone])
    index.settle(index.build(SETTINGS, {}))
    assert not (index.FOLDER / "test" / f"shard-{shard:03d}.csv").exists()


def test_a_missing_file_is_named_with_its_row(corpus):
    (corpus / "audio" / "train_0" / "u1.wav").unlink()
    with pytest.raises(DataError, match=r"labels.csv, row 3: corpus/audio/train_0/u1.wav is not on disk"):
        index.build(SETTINGS, {})


def test_a_folder_in_place_of_a_file_is_left_to_the_audio_stage(corpus):
    (corpus / "audio" / "train_0" / "u1.wav").unlink()
    (corpus / "audio" / "train_0" / "u1.wav").mkdir()
    built = index.build(SETTINGS, {})
    rows = [row for s in built.shards["train"] for row in manifest.read(index.FOLDER / "train" / f"shard-{s}.csv")]
    assert [row.sha256 == "" for row in rows if row.utterance_id == "train_0/u1.wav"] == [True]


def test_jobs_load_what_the_main_process_wrote(corpus):
    built = index.build(SETTINGS, {})
    assert index.load() == built


def test_an_unchanged_file_is_not_read_again(corpus, tmp_path, monkeypatch):
    path = corpus / "audio" / "train_0" / "u0.wav"
    os.utime(path, ns=(0, 0))
    monkeypatch.setattr("ser.corpus.file_hashes._SETTLED_NS", -(10**12))  # as if the file had been there for long
    cache = tmp_path / "cache.parquet"
    expected = {str(path): sha256(path)}
    assert hash_files([str(path)], cache, "audio") == expected
    monkeypatch.setattr("ser.corpus.file_hashes._hash_one", lambda _: pytest.fail("read again"))
    assert hash_files([str(path)], cache, "audio") == expected


def test_a_hash_of_a_file_just_written_is_not_remembered(corpus, tmp_path):
    path = corpus / "audio" / "train_0" / "u0.wav"
    path.write_bytes(b"one")
    hash_files([str(path)], tmp_path / "cache.parquet", "audio")
    path.write_bytes(b"two")  # the same size, and possibly the same clock tick
    assert hash_files([str(path)], tmp_path / "cache.parquet", "audio") == {str(path): sha256(path)}


def test_an_encoder_folder_counts_by_content(corpus, tmp_path):
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    spec = {"mine": {"base": "encoder", "revision": "main"}}
    first = index.build(SETTINGS, spec).encoders["mine"]
    os.utime(folder / "model.safetensors")
    assert index.build(SETTINGS, spec).encoders["mine"] == first
    (folder / "model.safetensors").write_bytes(b"WEIGHTS")
    assert index.build(SETTINGS, spec).encoders["mine"] != first


def test_an_empty_encoder_folder_is_named(corpus, tmp_path):
    (tmp_path / "encoder").mkdir()
    with pytest.raises(DataError, match="config: encoders.mine.base: encoder: has no config.json"):
        index.build(SETTINGS, {"mine": {"base": "encoder", "revision": "main"}})


def test_groups_lie_apart_from_manifests_and_labels(corpus):
    settings = SETTINGS | {"groups": ["gender"]}
    rows = [row | {"gender": "fm"[int(row["speaker"][-1])]} for row in read_sheet(corpus) if row["split"] == "test"]
    others = [row | {"gender": ""} for row in read_sheet(corpus) if row["split"] != "test"]
    write_sheet(corpus, [*rows, *others])
    first, before = index.build(settings, {}), stamps(index.FOLDER)
    assert (index.FOLDER / "test/groups.csv").read_text() == "speaker_id,gender\ntest 0,f\ntest 1,m\n"
    assert (index.FOLDER / "validation/groups.csv").read_text() == "speaker_id,gender\nvalidation 0,unknown\n"

    write_sheet(corpus, [*([row | {"gender": "x"} for row in rows]), *others])
    second, after = index.build(settings, {}), stamps(index.FOLDER)
    assert {path for path in after if after[path] != before[path]} == {index.FOLDER / "test/groups.csv"}
    assert second.groups["test"] != first.groups["test"]
    assert (second.shards, second.labels) == (first.shards, first.labels)
    assert index.load() == second

    without = index.build(SETTINGS, {})
    assert without.groups == {}
    index.settle(without)
    assert not list(index.FOLDER.glob("*/groups.csv"))


def test_an_index_that_another_replaced_is_not_started_from(corpus):
    first = index.build(SETTINGS, {})
    index.build(SETTINGS | {"shards": 1}, {})
    with pytest.raises(DataError, match="results/manifests: is of another config or corpus than this run's"):
        index.settle(first)


@pytest.mark.parametrize("names", [{"gone": {"../../x/shard-000.csv": ""}}, {"labels": {"..": ""}}, {"gone": 3}])
def test_an_index_that_lists_what_none_writes_is_none(corpus, names):
    """A results folder that was passed on can hold any."""
    first = index.build(SETTINGS, {})
    path = index.FOLDER / "index.json"
    path.write_text(json.dumps(read_json(path) | names))
    with pytest.raises(DataError, match="index.json: is gone or damaged"):
        index.load()
    assert index.build(SETTINGS, {}) == first == index.load()
