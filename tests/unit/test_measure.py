"""A shard's audio facts and speakers' MFCCs, against librosa file by file."""

import json
from pathlib import Path

import librosa
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from ser.audio import facts as audio_facts
from ser.files import DataError, sha256, write_text
from ser.formats.csv_files import format_rows
from ser.formats.manifest import Utterance

LIMITS = {"min_seconds": 0.1, "max_seconds": 120, "silence_db": -80}
IDS = ['a, "quoted" id.wav', "b/ç é 语.wav", "c/../d.wav", "e\nf.wav", "g.wav", "h 😀.wav"]
SPEAKERS = ["ë/2", "Ana, 1", "ë/2", "Ana, 1", "Ana, 1", "silent one"]


def make_shard(folder: Path, silent: tuple[int, ...] = (5,)) -> list[Utterance]:
    """Six utterances of three speakers, those at `silent` all zeros, and their manifest."""
    utterances = []
    for number, (name, speaker) in enumerate(zip(IDS, SPEAKERS, strict=True)):
        path = folder / f"{number}.wav"
        rate, channels = ((16_000, 1), (44_100, 2), (8_000, 1))[number % 3]
        samples = np.random.default_rng(number).normal(0, 0.05 * (number not in silent), (rate // 2, channels))
        soundfile.write(path, samples, rate)
        utterances.append(Utterance(name, str(path), speaker, sha256(path)))
    write_manifest(folder, utterances)
    return utterances


def write_manifest(folder: Path, utterances: list[Utterance]) -> None:
    write_text(folder / "shard.csv", format_rows(Utterance._fields, utterances))


def run(folder: Path) -> tuple[list[dict], dict]:
    facts, speakers = folder / "out" / "facts.parquet", folder / "out" / "speakers.json"
    audio_facts.measure_shard(folder / "shard.csv", facts, speakers, **LIMITS)
    return pq.read_table(facts).to_pylist(), json.loads(speakers.read_text(encoding="utf-8"))


def test_facts_and_speakers_are_those_of_the_files(tmp_path):
    utterances = make_shard(tmp_path)
    facts, speakers = run(tmp_path)
    assert [(f["utterance_id"], f["path"], f["speaker_id"], f["sha256"]) for f in facts] == [u[:4] for u in utterances]
    assert [f["status"] for f in facts] == ["ok"] * 5 + ["rejected"]
    expected = {}
    for fact, utterance in zip(facts[:5], utterances, strict=False):
        mono, _ = librosa.load(utterance.path, sr=16_000)
        info = soundfile.info(utterance.path)
        assert (fact["sample_rate"], fact["channels"], fact["reason"]) == (info.samplerate, info.channels, "")
        assert fact["duration_s"] == pytest.approx(info.duration)
        assert fact["peak"] == pytest.approx(np.abs(mono).max(), abs=1e-6)
        assert fact["rms_db"] == pytest.approx(10 * np.log10(np.mean(mono.astype(float) ** 2)), abs=1e-4)
        one = librosa.feature.mfcc(y=mono, sr=16_000, n_mfcc=13).mean(axis=1)
        expected.setdefault(utterance.speaker_id, []).append((one, info.duration))
    assert list(speakers) == sorted(expected)  # the speaker without a usable utterance is left out
    for name, speaker in speakers.items():
        mfccs, seconds = zip(*expected[name], strict=True)
        np.testing.assert_allclose(speaker["mfcc"], np.mean(mfccs, axis=0), atol=1e-3)  # as in test_mfcc
        assert speaker["n_utterances"] == len(mfccs)
        assert speaker["seconds"] == pytest.approx(sum(seconds))


def test_each_utterance_counts_the_same_however_long(tmp_path):
    rng = np.random.default_rng(0)
    utterances, means = [], []
    for name, seconds, level in (("long", 3, 0.01), ("short", 0.3, 0.3)):
        samples = rng.normal(0, level, int(16_000 * seconds)).astype(np.float32)
        soundfile.write(tmp_path / name, samples, 16_000, format="WAV", subtype="FLOAT")
        utterances.append(Utterance(name, str(tmp_path / name), "s", sha256(tmp_path / name)))
        means.append(librosa.feature.mfcc(y=samples, sr=16_000, n_mfcc=13).mean(axis=1))
    write_manifest(tmp_path, utterances)
    _, speakers = run(tmp_path)
    np.testing.assert_allclose(speakers["s"]["mfcc"], (means[0] + means[1]) / 2, atol=1e-3)
    assert abs(means[0][0] - means[1][0]) > 100  # a mean over frames would be far from it


def test_a_shard_of_rejected_audio_has_the_same_columns(tmp_path):
    make_shard(tmp_path, silent=tuple(range(6)))
    facts, speakers = run(tmp_path)
    assert speakers == {}
    assert pq.read_schema(tmp_path / "out" / "facts.parquet").equals(audio_facts.FACTS)
    for fact in facts:
        assert (fact["status"], fact["reason"]) == ("rejected", "silent: below -80 dB")
        assert [fact[name] for name in ("duration_s", "sample_rate", "channels", "peak", "rms_db")] == [None] * 5


def test_an_empty_manifest_has_empty_results(tmp_path):
    write_manifest(tmp_path, [])
    assert run(tmp_path) == ([], {})
    assert pq.read_schema(tmp_path / "out" / "facts.parquet").equals(audio_facts.FACTS)


def test_a_file_the_index_could_not_read_is_rejected_and_the_rest_goes_on(tmp_path):
    utterances = make_shard(tmp_path)
    Path(utterances[1].path).unlink()
    utterances[1] = utterances[1]._replace(sha256="")
    write_manifest(tmp_path, utterances)
    facts, speakers = run(tmp_path)
    assert facts[1]["reason"] == "cannot be read: no such file or directory"
    assert speakers["Ana, 1"]["n_utterances"] == 2


def test_a_file_that_changed_since_it_was_indexed_stops_the_job(tmp_path):
    utterances = make_shard(tmp_path)
    soundfile.write(utterances[3].path, np.full(16_000, 0.1), 16_000)
    with pytest.raises(DataError, match=r"3\.wav: changed while the run was going on; run again"):
        run(tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_rows_are_written_in_groups_in_order(tmp_path, monkeypatch):
    make_shard(tmp_path)
    whole = run(tmp_path)
    monkeypatch.setattr(audio_facts, "ROW_GROUP", 4)
    assert run(tmp_path) == whole
    assert pq.ParquetFile(tmp_path / "out" / "facts.parquet").metadata.num_row_groups == 2


def test_two_runs_write_the_same_bytes(tmp_path):
    make_shard(tmp_path)
    outputs = []
    for _ in range(2):
        run(tmp_path)
        outputs.append([path.read_bytes() for path in sorted((tmp_path / "out").iterdir())])
    assert outputs[0] == outputs[1]


def test_each_file_is_decoded_once(tmp_path, monkeypatch):
    make_shard(tmp_path)
    opened = []
    start = soundfile.SoundFile.__init__
    monkeypatch.setattr(soundfile.SoundFile, "__init__", lambda self, *a, **k: opened.append(1) or start(self, *a, **k))
    run(tmp_path)
    assert len(opened) == 6
