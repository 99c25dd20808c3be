"""Thousands of damaged and hostile files: an error that names what is wrong, or the very content that was written.

Each input is a good file with one to three changes (one, where a checksum has to notice): a bit, a byte or a slice, or
in a text a word that programs trip over. What the workflow wrote itself (sealed) comes back equal or is refused; what
others write is refused or is fit for use. Nothing ends in another exception, or in more than LONGEST seconds.

    python -m pytest -m slow -rP tests/unit/test_fuzz.py     fifty times as many, with what came of them
"""

import json
import random
import resource
import signal
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from made_audio import encode, make_speech
from made_corpus import DEFAULTS
from test_comparison import make_summary

from ser.audio.decode import Rejected, load
from ser.config.ablations import resolve_ablations
from ser.config.encoders import resolve_encoders
from ser.config.plain import check_plain
from ser.config.schema import check
from ser.corpus.sheet import read_corpus
from ser.encoders.encoder_config import read_config
from ser.files import DataError, read_json, write_json
from ser.formats import manifest, tfrecord
from ser.formats.csv_files import format_rows, read_table, write_csv
from ser.formats.encoder_folder import list_files
from ser.formats.parquet import read_parquet, write_parquet
from ser.formats.tensors import read_tensors, write_tensors
from ser.text import clean, find_fault
from ser.tracing.comparison import compare, read_summary
from ser.tracing.comparison_text import format_comparison

ROOT = Path(__file__).parents[2]
LONGEST = 30  # s for one input
MEMORY = 1_000_000  # kB that a kind of input may add to the process
WORDS = ["-1", "0", "1e999", ".inf", "nan", "true", "null", "[]", "{}", "''", '"', "\\", "../", "/etc/passwd", "{x}"]
WORDS += ["=1+1", "\x1b[2J", "\x9b", "\u202e", "\0", "\n", ",", ";", ":", "&a [*a]", "*a", "!!python/name:os.system"]
WORDS += ["9" * 40, "s" * 600, "__use_yte__: true\n", "<script>", "$(touch ran)", "\ud83d", "\ufeff", "%s", "- ", "? "]

AUDIO = {"min_seconds": 0.1, "max_seconds": 600, "silence_db": -80}
SHEET = DEFAULTS | {"targets": ["valence", "arousal"], "shards": 2}
CONFIG = """corpus: {folder: demo, test_splits: [test, other], label_range: [1, 7], shards: 2}
encoders:
  plain: {base: demo/encoder, threads: 1}
  papt: {base: demo/encoder, adaptation: papt, position: first, neighbours: 4}
pseudo_labels: {demo: {centroids: demo/encoder}}
pretraining: {epochs: 2, learning_rate: 0.0001, freeze_front: true}
ablations:
  - name: baseline
  - {name: film, speaker: mfcc, fusion: film, head: transformer, training: {epochs: 12, dropout: 0.1}}
  - {name: papt, encoder: papt, layer: -1, weighting: similar_speakers, strength: 0.5}
baseline: baseline
seeds: [1, 2]
calibration: {methods: [{name: mu}, {name: enrol, enrolment: 5}], k: [1, 2], alpha: [0, 0.5]}
"""
HUBERT = {"model_type": "hubert", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
HUBERT |= {"conv_dim": [16] * 7, "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_kernel": [10, 3, 3, 3, 3, 2, 2]}
HUBERT |= {"layer_norm_eps": 1e-05, "do_stable_layer_norm": False, "feat_extract_norm": "group"}


def change(content: bytes, rng: random.Random, is_text: bool) -> bytes:
    """One of the ways in which files are damaged, or made up."""
    place, length = rng.randrange(len(content) + 1), rng.choice([1, 2, 8, 64, 512])
    kind = rng.choice(["bit", "byte", "cut", "drop", "double", "zeros", "insert", *["word"] * (6 * is_text)])
    if kind == "word":
        return content[:place] + rng.choice(WORDS).encode("utf-8", "surrogatepass") + content[place + length % 8 :]
    if kind == "bit" and content:
        place = min(place, len(content) - 1)
        return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    middle = {
        "byte": rng.randbytes(1),
        "insert": rng.randbytes(length),
        "zeros": bytes(length),
        "cut": b"",
        "drop": b"",
    }
    rest = {"byte": 1, "insert": 0, "zeros": length, "cut": len(content), "drop": length, "double": 0}.get(kind, 0)
    return content[:place] + middle.get(kind, content[max(0, place - length) : place]) + content[place + rest :]


@contextmanager
def limited():
    def stop(*_):
        raise AssertionError(f"takes more than {LONGEST} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Kind:
    """A kind of file. `read` returns what it holds; with `sealed` that is what was written, or an error."""

    name: str
    write: object  # (path) -> None
    read: object  # (path) -> value that can be compared
    sealed: bool = False
    text: bool = False
    count: int = 400  # inputs of the short run


def make_wave():
    time = np.arange(9_600) / 16_000
    return 0.1 * np.sin(900 * time) + np.random.default_rng(0).normal(0, 0.02, len(time))


def write_audio(kind):
    return lambda path: soundfile.write(path, make_wave(), 16_000, format=kind)


FOREIGN_AUDIO = {
    "sound.m4a": ("ipod", "aac"),
    "sound.webm": ("webm", "libopus"),
    "sound.wma": ("asf", "wmav2"),
    "sound.amr": ("amr", "libopencore_amrnb"),
    "sound.oga": ("ogg", "flac"),
    "sound.mp2": ("mp2", "mp2"),
}


def write_foreign_audio(container, codec):
    def write(path):
        rate = {"libopus": 48_000, "libopencore_amrnb": 8_000}.get(codec, 16_000)
        settings = {"bit_rate": 12_200} if rate == 8_000 else {}
        path.write_bytes(encode(make_speech(0.6, rate), rate, container, codec, **settings))

    return write


def read_audio(path):
    try:
        samples, info = load(path, **AUDIO)
    except Rejected as reason:
        raise DataError(str(reason)) from None
    assert np.isfinite(samples).all() and samples.dtype == np.float32
    assert 0.1 <= info.duration_s <= 600 and len(samples) <= 600 * 16_000


TABLE = pa.table(
    {
        "utterance_id": [f"{number}.wav" for number in range(60)],
        "speaker_id": [f"speaker {number // 6}" for number in range(60)],
        "valence": pa.array(np.linspace(1, 7, 60), pa.float32()),
        "vector": pa.array([[float(number)] * 3 for number in range(60)], pa.list_(pa.float32())),
    }
)


def read_foreign(path):
    table = read_parquet(path)
    table.to_pylist()
    assert len(table) <= 10_000_000


def write_records(path):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(3, 8)).astype(np.float16) for _ in range(6)]
    tfrecord.write(path, [tfrecord.Record(f"{n}.wav", f"s {n % 2}", "ab" * 32, 5, a) for n, a in enumerate(arrays)])


def read_records(path):
    if path.stat().st_size == 0:  # as a shard whose audio was all set aside: known, and in the documents
        raise DataError("empty")
    return [(r.utterance_id, r.speaker_id, r.sha256, r.n_frames, r.embedding.tobytes()) for r in tfrecord.read(path)]


TENSORS = {"centroids": np.arange(24, dtype=np.float32).reshape(4, 6), "codes": np.ones(5, np.float32)}


def read_arrays(path):
    tensors, metadata = read_tensors(path)
    return {name: (str(array.dtype), array.tobytes()) for name, array in tensors.items()}, metadata


def write_sheet(path):
    rows = [[f"{n}.wav", f"s {n // 3}", ("train", "validation", "test")[n // 6], 1 + n % 6, 2.5] for n in range(18)]
    path.write_text(format_rows(["file", "speaker", "split", "valence", "arousal"], rows))


def read_sheet(path):
    for row in read_corpus(SHEET | {"folder": str(path.parent), "sheet": path.name}).rows:
        assert not find_fault(row.speaker_id) and not find_fault(row.utterance_id)
        assert ".." not in row.path.split("/") and all(label is None or 1 <= label <= 7 for label in row.labels)


def read_study_config(schema):
    def read(path):
        check_plain(path)
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = check(config, schema)
        resolve_encoders(config)
        for name in resolve_ablations(config):
            assert not find_fault(name) and "/" not in name
        assert all(0 <= seed < 2**32 for seed in config["seeds"])

    return read


def read_encoder(path):
    """The configuration in a folder of its own, and the files that its index names."""
    read_config(path.parent)


def read_places(path):
    assert all(each.parent == path.parent and each.suffix != ".bin" for each in list_files(path.parent))


def write_cells(path):
    write_csv(path, ["speaker_id", "ccc"], [{"speaker_id": "=a", "ccc": 0.5}] * 9)


def read_cells(path):
    for row in read_table(path, ["speaker_id"]):
        assert all(isinstance(row[name], float | None) for name in row if name != "speaker_id")


def write_summary(path):
    path.write_text(json.dumps(make_summary(), indent=1))


def read_comparison(path):
    format_comparison(*compare(make_summary(), read_summary(path)), 1)


DATABASE = """name: made
schemes:
  speaker: {dtype: str, labels: {s0: {split: train}, s1: {split: dev}, s2: {split: test}}}
tables:
  emotion: {type: filewise, columns: {valence: {}, arousal: {}, speaker: {scheme_id: speaker}}}
"""


def write_database(path):
    path.write_text(DATABASE)
    rows = [[f"{n}.wav", 1 + n % 6, 2.5, f"s{n // 6}"] for n in range(18)]
    text = format_rows(["file", "valence", "arousal", "speaker"], rows)
    (path.parent / f"{path.stem}.emotion.csv").write_text(text)


def read_database(path):
    settings = SHEET | {"layout": "audformat", "tables": "emotion", "columns": {}}
    read_corpus(settings | {"folder": str(path.parent), "sheet": path.name})


def write_manifest(path):
    path.write_text(format_rows(manifest.Utterance._fields, ROWS))


ROWS = [manifest.Utterance(f"{n}.wav", f"audio/{n}.wav", f"s {n}", "ab" * 32) for n in range(9)]
KINDS = [
    Kind("table.parquet", lambda path: write_parquet(path, TABLE, row_group_size=25), read_parquet, sealed=True),
    Kind("others.parquet", lambda path: pq.write_table(TABLE, path, row_group_size=25), read_foreign),
    Kind("records.tfrecord", write_records, read_records, sealed=True),
    Kind("head.safetensors", lambda path: write_tensors(path, TENSORS, {"speakers": "[]"}), read_arrays, sealed=True),
    Kind("choices.json", lambda path: write_json(path, {"k": [1, 2], "a": 0.25}), read_json, sealed=True, text=True),
    Kind("sound.wav", write_audio("WAV"), read_audio),
    Kind("sound.flac", write_audio("FLAC"), read_audio),
    Kind("sound.ogg", write_audio("OGG"), read_audio, count=200),
    Kind("sound.mp3", write_audio("MP3"), read_audio, count=200),
    *(Kind(name, write_foreign_audio(*how), read_audio, count=150) for name, how in FOREIGN_AUDIO.items()),
    Kind("labels.csv", write_sheet, read_sheet, text=True),
    Kind("db.yaml", write_database, read_database, text=True, count=300),
    Kind("config.yaml", lambda path: path.write_text(CONFIG), None, text=True, count=100),
    Kind("config.json", lambda path: path.write_text(json.dumps(HUBERT, indent=1)), read_encoder, text=True),
    Kind("model.safetensors.index.json", None, read_places, text=True),
    Kind("manifest.csv", write_manifest, manifest.read, text=True),
    Kind("speaker_table.csv", write_cells, read_cells, text=True),
    Kind("summary.json", write_summary, read_comparison, text=True),
]


def write_index(path):
    """Of weights in two files, beside what an index must not name."""
    for name in ("config.json", "a.safetensors", "b.safetensors", "pytorch_model.bin"):
        (path.parent / name).write_text("{}")
    path.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))


def fuzz(kind: Kind, path, count: int, seed: int) -> Counter:
    """What came of so many inputs: refused, equal, or another content that is fit for use."""
    rng, outcomes = random.Random(f"{kind.name} {seed}"), Counter()
    kind.write(path)
    whole, written = path.read_bytes(), kind.read(path)
    for _ in range(count):
        content = whole
        for _ in range(1 if kind.sealed else rng.choice([1, 1, 1, 2, 3])):
            content = change(content, rng, kind.text)
        path.write_bytes(content)
        try:
            with limited():
                found = kind.read(path)
        except DataError as error:
            assert clean(str(error)) == str(error)
            outcomes["refused"] += 1
            continue
        except Exception as error:
            path.with_name("culprit").write_bytes(content)
            raise AssertionError(f"{path.with_name('culprit')}: {error!r}") from error
        equal = found.equals(written) if isinstance(found, pa.Table) else found == written
        if kind.sealed and not equal:
            path.with_name("culprit").write_bytes(content)
            raise AssertionError(f"{path.with_name('culprit')}: another content")
        outcomes["equal" if content == whole or kind.sealed else "accepted"] += 1
    return outcomes


def run(kind: Kind, tmp_path, monkeypatch, times: int, seed: int) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "inputs"
    folder.mkdir()
    kind.write = kind.write or write_index
    kind.read = kind.read or read_study_config(ROOT / "rules" / "config.schema.yaml")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = fuzz(kind, folder / kind.name, times * kind.count, seed)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{kind.name}: {outcomes.total()} inputs, {dict(outcomes)}, {grown / 1000:.0f} MB more")
    assert grown < MEMORY and outcomes["refused"]
    assert not [path for path in tmp_path.rglob("ran")]


each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@each_kind
def test_damaged_and_hostile_files_are_refused_or_equal(kind, tmp_path, monkeypatch):
    run(kind, tmp_path, monkeypatch, 1, seed=0)


@pytest.mark.slow
@each_kind
def test_many_more_of_them(kind, tmp_path, monkeypatch):
    run(kind, tmp_path, monkeypatch, 50, seed=1)
