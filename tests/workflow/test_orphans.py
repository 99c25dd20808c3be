import os
import time
from pathlib import Path

import pytest

from ser.tracing import orphans

RESULTS = Path("results")
MADE_NOW = {
    "results/frames/hubert/train/shard-000.tfrecord",
    "results/embeddings/hubert/train/shard-000.tfrecord",
    "results/encoders/hubert/card.json",
    *(f"results/encoders/hubert/{name}" for name in ("adaptation.safetensors", "training.csv")),
    "results/utterance_vectors/xvector/train/shard-000.tfrecord",
    "results/speaker_models/xvector/card.json",
    "results/models/base/seed-1/history.csv",
    "results/logs/train/base.log",
    "results/table.csv",
}
MADE_ONCE = MADE_NOW | {"results/labels/old.parquet"}


@pytest.fixture(autouse=True)
def _folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def find(*names):
    """The orphans among files that are made here and those that are there already."""
    for path in map(Path, names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return orphans.find_orphans(RESULTS, MADE_NOW.__contains__, MADE_ONCE.__contains__, {"train"})


def test_what_was_made_and_is_made_no_more():
    assert find(*MADE_ONCE) == ["results/labels/old.parquet"]


@pytest.mark.parametrize(
    "name", ["README.md", "labels/mine.parquet", ".hidden", "logs/notes.txt", "logs/run.log", "audio/a-b.csv"]
)
def test_what_the_workflow_did_not_make_is_not_listed(name):
    assert find(f"results/{name}") == []


@pytest.mark.parametrize(
    ("name", "orphan"),
    [
        ("logs/train/base.log", False),
        ("logs/train/old.log", True),
        ("logs/mine/old.log", False),
        ("benchmarks/train/old.tsv", True),
        ("benchmarks/train.tsv", True),
        (".reuse/hubert/train/shard-000-00ff.pooled.tfrecord", False),
        (".reuse/hubert/train/shard-000-00ff.frames.tfrecord", False),
        (".reuse/hubert/train/shard-001-00ff.pooled.tfrecord", True),
        (".reuse/old/train/shard-000-00ff.pooled.tfrecord", True),
        (".reuse/speakers/xvector/train/shard-000-00ff.pooled.tfrecord", False),
        (".reuse/speakers/xvector/train/shard-001-00ff.pooled.tfrecord", True),
        (".reuse/speakers/old/train/shard-000-00ff.pooled.tfrecord", True),
        ("manifests/encoder-speaker_vectors~xvector-digests.parquet", False),
        ("manifests/encoder-speaker_vectors~old-digests.parquet", True),
        ("manifests/encoder-hubert-digests.parquet", False),
        ("manifests/encoder-old-digests.parquet", True),
        (".checkpoints/hubert.pt", False),
        (".checkpoints/old.pt", True),
        ("logs/tensorboard/hubert/events.out.tfevents.1.host.2.0", False),
        ("logs/tensorboard/old/events.out.tfevents.1.host.2.0", True),
        ("logs/tensorboard/base/seed-1/events.out.tfevents.1.host.2.0.v2", False),
        ("logs/tensorboard/base/seed-2/events.out.tfevents.1.host.2.0.v2", True),
        ("logs/tensorboard/old/notes.txt", False),
    ],
)
def test_what_is_known_by_its_name(name, orphan):
    assert find(f"results/{name}") == ([f"results/{name}"] if orphan else [])


def test_a_temporary_file_counts_once_it_is_abandoned():
    name = "results/.table-abcd1234.csv"  # of results/table.csv
    assert find(name, "results/.other-abcd1234.csv") == []
    for path in RESULTS.iterdir():
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    assert find() == [name]


def test_removing_takes_empty_folders_along():
    listed = find("results/logs/train/old.log", "results/logs/train/base.log", "results/benchmarks/train/b/c.tsv")
    orphans.remove(listed, RESULTS)
    assert sorted(map(str, RESULTS.rglob("*"))) == [
        "results/logs",
        "results/logs/train",
        "results/logs/train/base.log",
    ]
