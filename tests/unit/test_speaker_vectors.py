"""Speaker vectors of every kind: named in the config, made of utterances, taken from files, permuted, compared."""

import importlib.util
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from ser.config import speaker_vectors
from ser.config.ablations import resolve_ablations
from ser.config.calibration_methods import Method, check_similarities
from ser.config.schema import check
from ser.config.speaker_vectors import resolve_speaker_vectors
from ser.evaluation.calibration_inputs import References, measure_scale, name_files, read_vectors
from ser.files import DataError, read_json, sha256, write_json
from ser.formats import tfrecord
from ser.formats.csv_files import format_rows
from ser.formats.manifest import COLUMNS
from ser.formats.tfrecord import Record
from ser.speakers import vectors_file
from ser.speakers.averages import average_shard, permute_speakers
from ser.speakers.from_audio import describe_speaker, open_extractor
from ser.speakers.measure import measure_shard
from ser.speakers.vectors import read_compared

SCHEMA = "rules/config.schema.yaml"
needs_opensmile = pytest.mark.skipif(
    importlib.util.find_spec("opensmile") is None, reason="opensmile is not installed (envs/requirements-egemaps.txt)"
)


def make_config(pytestconfig, **changes):
    config = {"corpus": {"folder": "c"}, "encoders": {"e": {"base": "e"}}, "ablations": [{"name": "a"}]}
    return check(config | {"baseline": "a"} | changes, pytestconfig.rootpath / SCHEMA)


def resolve(pytestconfig, **vectors):
    return resolve_speaker_vectors(make_config(pytestconfig, speaker_vectors=vectors))


def test_the_config_names_vectors_of_every_kind(pytestconfig):
    given = {
        "layer_6": {"features": "embeddings", "layer": 6},
        "egemaps": {"features": "egemaps"},
        "wavlm": {"model": "microsoft/wavlm-base-plus-sv", "revision": "v1"},
        "ecapa": {"file": "ecapa.parquet"},
        "other": {"permute": "ecapa"},
    }
    vectors = resolve(pytestconfig, **given)
    assert list(vectors) == ["fused", "encoder", "mfcc", "mfcc_permuted", *given]
    assert (vectors["layer_6"].source, vectors["layer_6"].layer) == ("e", 6)  # of the first encoder
    where = {"ablation": "a", "encoder": "e", "seed": [1, 2], "split": "test", "shard": ["000", "001"]}
    files = {name: each.list_files(**where) for name, each in vectors.items()}
    assert files["mfcc"] == ["speakers/test/shard-000.json", "speakers/test/shard-001.json"]
    assert files["ecapa"] == ["speakers/ecapa/test/shard-000.json", "speakers/ecapa/test/shard-001.json"]
    assert files["mfcc_permuted"] == ["speakers/mfcc_permuted/test/permuted.json"]
    assert files["fused"] == [f"speaker_vectors/a/seed-{seed}/test.parquet" for seed in (1, 2)]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"v": {}}, "speaker_vectors.v: needs one of features, model, file and permute$"),
        ({"v": {"file": "a", "model": "b/c"}}, "needs one of .*; it has model, file"),
        ({"v": {"file": "a", "layer": 3}}, "speaker_vectors.v: layer has no meaning for file"),
        ({"v": {"features": "egemaps", "encoder": "e"}}, "encoder has no meaning for egemaps"),
        ({"v": {"features": "embeddings", "encoder": "x"}}, "speaker_vectors.v: encoder is 'x', expected one of e"),
        ({"v": {"permute": "x"}}, "speaker_vectors.v: permute is 'x', expected one of mfcc"),
        ({"v": {"permute": "mfcc_permuted"}}, "permute is 'mfcc_permuted', expected one of mfcc"),
        ({"mfcc": {"file": "a"}}, "speaker_vectors.mfcc: the name is taken"),
        ({"fused": {"file": "a"}}, "speaker_vectors.fused: the name is taken"),
        ({"v": {"features": "mel"}}, "features: 'mel' is not one of"),
    ],
)
def test_vectors_that_make_no_sense_are_named(pytestconfig, given, fault):
    with pytest.raises(DataError, match=fault):
        resolve(pytestconfig, **given)


@pytest.mark.parametrize(
    ("ablation", "fault"),
    [
        ({"speaker": "x", "fusion": "sum"}, "speaker is 'x', expected one of none, encoder, mfcc, mfcc_permuted, v"),
        ({"speaker": "fused", "fusion": "sum"}, "speaker is 'fused', expected one of"),
        ({"weighting": "similar_speakers", "similarity": "fused"}, "similarity is 'fused', expected one of encoder"),
        ({"speaker": "v"}, "speaker is 'v' but fusion is 'none'"),
        ({"speaker": "v", "fusion": "attention"}, "attention looks at utterances, and goes with speaker: none"),
        ({"fusion": "attention", "head": "transformer"}, "attention looks at utterances averaged over time"),
        (
            {"normalise": "speaker", "head": "transformer", "finetune": {}},
            "beside finetune, normalise is of features averaged over time",
        ),
        ({"normalise": "speaker", "enrolment": 4}, "the spread of fewer than 5 utterances is mostly chance"),
        ({"enrolment": 4}, "enrolment is of normalise, which is none"),
        ({"permuted": True}, "permuted is the control of normalise and attention"),
    ],
)
def test_ablations_that_make_no_sense_are_named(pytestconfig, ablation, fault):
    config = make_config(
        pytestconfig, ablations=[{"name": "a", **ablation}], speaker_vectors={"v": {"features": "egemaps"}}
    )
    with pytest.raises(DataError, match=fault):
        resolve_ablations(config)


def test_a_calibration_names_vectors_too(pytestconfig):
    vectors = resolve(pytestconfig, v={"features": "egemaps"})
    check_similarities([Method("a", similarity=name) for name in vectors], vectors)
    with pytest.raises(DataError, match="'a': similarity is 'hubert', expected one of .*; it is called 'encoder' now"):
        check_similarities([Method("a", similarity="hubert")], vectors)


def test_what_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(speaker_vectors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"egemaps needs opensmile.*requirements-egemaps.txt .*no commercial use"):
        speaker_vectors.check_installed(["egemaps"])
    speaker_vectors.check_installed(["mfcc", "file"])


def write_records(path, vectors):
    tfrecord.write(
        path, [Record(f"u{i}", speaker, "", 1, x.astype(np.float32)) for i, (speaker, x) in enumerate(vectors)]
    )


def test_a_speakers_vector_is_the_mean_of_its_utterances_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 3, 4)) * np.array([1, 100, 1, 1, 1])[:, None, None]  # a loud one counts as it is
    values[3] = np.nan
    write_records(tmp_path / "r.tfrecord", zip("aabba", values, strict=True))
    average_shard(tmp_path / "r.tfrecord", "embeddings", -2, tmp_path / "v.json")
    entries = read_json(tmp_path / "v.json")
    np.testing.assert_allclose(entries["a"]["embeddings"], values[[0, 1, 4], 1].mean(0), rtol=1e-6)  # float32
    np.testing.assert_allclose(entries["b"]["embeddings"], values[2, 1], rtol=1e-6)
    assert (entries["b"]["n_utterances"], entries["b"]["n_left_out"]) == (1, 1)
    with pytest.raises(DataError, match=r"layer 3 is none of .*: 0 to 2"):
        average_shard(tmp_path / "r.tfrecord", "embeddings", 3, tmp_path / "v.json")
    write_records(tmp_path / "none.tfrecord", [("c", values[3])])
    with pytest.raises(DataError, match="speaker c has no utterance that egemaps .*: all 1 are too short or unvoiced;"):
        average_shard(tmp_path / "none.tfrecord", "egemaps", 0, tmp_path / "v.json")


def test_permuted_speakers_all_have_the_vector_of_another(tmp_path):
    rng = np.random.default_rng(0)
    for shard in range(2):
        entries = {f"s{shard}{i}": {"mfcc": rng.normal(size=13).tolist()} for i in range(3)}
        write_json(tmp_path / f"{shard}.json", entries)
    files = [tmp_path / "0.json", tmp_path / "1.json"]
    permute_speakers(files, tmp_path / "p.json")
    (own, _), (permuted, _) = read_compared(files), read_compared([tmp_path / "p.json"])
    assert list(own) == list(permuted) and own["s00"].shape == (12,)  # still MFCCs: compared without c0
    assert sorted(map(tuple, own.values())) == sorted(map(tuple, permuted.values()))
    assert not any(np.array_equal(own[speaker], permuted[speaker]) for speaker in own)
    assert all(np.array_equal(permuted[s], own[e["of"]]) for s, e in read_json(tmp_path / "p.json").items())


def write_manifest(folder, shard, rows):
    path = folder / f"shard-{shard}.csv"
    path.write_text(format_rows(COLUMNS, sorted(rows)), encoding="utf-8")
    return path


def test_vectors_of_a_file_go_to_their_shards(tmp_path):
    table = {"speaker_id": ["a", "b", "c"], "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}
    path = str(tmp_path / "v.parquet")
    pq.write_table(pa.table(table), path)
    shards = [write_manifest(tmp_path, "000", [("u", "u.wav", s, "") for s in "ab"])]
    shards.append(write_manifest(tmp_path, "001", [("w", "w.wav", "c", "")]))
    vectors_file.check_file("v", path, shards)
    vectors_file.take_shard("v", path, shards[0], tmp_path / "out.json")
    assert read_json(tmp_path / "out.json") == {"a": {"file": [1.0, 2.0]}, "b": {"file": [3.0, 4.0]}}
    before = [vectors_file.digest_shard("v", path, shard) for shard in shards]
    table["vector"][2] = [5.0, 7.0]
    pq.write_table(pa.table(table), path)
    vectors_file.read_file.cache_clear()
    after = [vectors_file.digest_shard("v", path, shard) for shard in shards]
    assert before[0] == after[0] and before[1] != after[1]


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"speaker_id": ["a"], "vector": [[1.0]]}, "has no vector of speaker b .1 of 2 are missing"),
        ({"speaker_id": ["a", "a"], "vector": [[1.0], [2.0]]}, "row 2, speaker a: is there twice"),
        ({"speaker_id": ["a", "b"], "vector": [[1.0], [2.0, 3.0]]}, "row 2, speaker b: has 2 numbers, expected 1"),
        ({"speaker_id": ["a", "b"], "vector": [[1.0], [float("nan")]]}, "row 2, speaker b: has numbers that are"),
        ({"speaker_id": ["a", "b"], "vector": [[1.0], [None]]}, "row 2, speaker b: has numbers that are missing"),
        ({"speaker_id": ["a", "b"], "vector": [[], [1.0]]}, "row 1, speaker a: has 0 numbers, expected some"),
        ({"speaker_id": ["a", "b"], "vector": [["x"], ["y"]]}, "row 1, speaker a: has numbers that are missing"),
        ({"speaker_id": ["a", "b"], "vector": [1.0, 2.0]}, "column vector holds double, expected lists of numbers"),
        ({"speaker": ["a", "b"], "vector": [[1.0], [2.0]]}, "has no column 'speaker_id'"),
        ("file,speaker,rating\na.wav,a,3\n", "v.parquet: cannot be read as Parquet"),
        (None, "is no file"),
    ],
)
def test_a_file_of_vectors_that_cannot_be_used_is_named(tmp_path, table, fault):
    path = tmp_path / "v.parquet"
    if isinstance(table, str):
        path.write_text(table)
    elif table:
        pq.write_table(pa.table(table), path)
    manifest = write_manifest(tmp_path, "000", [("u", "u.wav", "a", ""), ("w", "w.wav", "b", "")])
    with pytest.raises(DataError, match=fault) as said:
        vectors_file.check_file("v", str(path), [manifest])
    assert str(said.value).startswith("config: speaker_vectors.v.file: ") and "delete" not in str(said.value)


def test_functionals_are_compared_standardised_by_training_speakers_alone(tmp_path):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(6, 3)) * [1, 1000, 1] + 5, rng.normal(size=(2, 3))
    for name, values in (("train", train), ("test", test)):
        write_json(tmp_path / f"{name}.json", {f"{name}{i}": {"egemaps": v.tolist()} for i, v in enumerate(values)})
    inputs = {"train_vectors_eg": str(tmp_path / "train.json"), "vectors_eg": [str(tmp_path / "test.json")]}
    files = name_files(inputs, "train_")
    assert files["eg"] == [str(tmp_path / "train.json")] and name_files(inputs)["eg"] == inputs["vectors_eg"]
    vectors, standardised = read_vectors(files, 0)
    known = np.stack(list(vectors["eg"].values()))
    references = References(
        list(vectors["eg"]), None, None, {"eg": known}, 0, {n: measure_scale(known) for n in standardised}
    )
    _, cosine = references.rank("eg", test)
    z, w = (train - train.mean(0)) / train.std(0), (test - train.mean(0)) / train.std(0)
    expected = w @ z.T / np.linalg.norm(w, axis=1)[:, None] / np.linalg.norm(z, axis=1)
    np.testing.assert_allclose(cosine, -np.sort(-expected, axis=1), atol=1e-9)


@needs_opensmile
def test_egemaps_are_opensmiles_and_an_unchanged_utterance_is_not_measured_again(tmp_path):
    """In a process without TensorFlow, whose symbols get in opensmile's way and end it; no job has both."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(compare_with_opensmile, tmp_path).result()


def compare_with_opensmile(folder):
    import opensmile

    rng, rows, waves = np.random.default_rng(0), [], {}
    for name, seconds in (("a", 0.5), ("b", 0.4), ("short", 0.05), ("whisper", 0.5)):
        time = np.arange(int(16_000 * seconds)) / 16_000
        voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
        waves[name] = (0.1 * (rng.normal(size=len(time)) if name == "whisper" else voice)).astype(np.float32)
        soundfile.write(folder / f"{name}.wav", waves[name], 16_000, "FLOAT")
        rows.append((name, str(folder / f"{name}.wav"), "s", sha256(folder / f"{name}.wav")))
    extract = open_extractor("egemaps")
    audio = {"min_seconds": 0.025, "max_seconds": 60, "silence_db": -80}

    def run():
        counted = []
        options = {"kind": "egemaps", "folder": None, "device": "cpu", "threads": 1, "fingerprint": ""}
        manifest = write_manifest(folder, "000", rows)
        with mock.patch("ser.speakers.measure.open_egemaps", lambda: lambda x: counted.append(len(x)) or extract(x)):
            measure_shard(manifest, folder / "r.tfrecord", audio=audio, reuse_dir=folder / "reuse", **options)
        return counted

    assert run() == [8_000, 6_400, 800, 8_000]
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    own = {name: smile.process_signal(wave, 16_000).to_numpy()[0] for name, wave in waves.items()}
    assert (own["whisper"] == 0).sum() == 57  # of F0, its harmonics and the voiced parts there is nothing to measure
    average_shard(folder / "r.tfrecord", "egemaps", 0, folder / "v.json")
    entry = read_json(folder / "v.json")["s"]
    assert len(entry["egemaps"]) == 88 and (entry["n_utterances"], entry["n_left_out"]) == (2, 2)
    np.testing.assert_allclose(entry["egemaps"], (own["a"] + own["b"]) / 2, rtol=1e-5)  # means of float32
    np.testing.assert_allclose(describe_speaker(extract, waves.values()), entry["egemaps"], rtol=1e-6)
    shutil.copy(folder / "b.wav", folder / "a.wav")
    rows[0] = (*rows[0][:3], rows[1][3])
    assert run() == [6_400]
