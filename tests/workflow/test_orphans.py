import os
import time

import pytest

from ser import orphans

MADE_NOW = {"results/frames/hubert/train/shard-000.tfrecord", "results/embeddings/hubert/train/shard-000.tfrecord"}
MADE_NOW |= {"results/logs/train/base.log", "results/encoders/hubert/card.json", "results/table.csv"}
MADE_ONCE = MADE_NOW | {"results/labels/old.parquet"}


def find(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    os.chdir(folder)
    return orphans.find_orphans(folder.__class__("results"), MADE_NOW.__contains__, MADE_ONCE.__contains__)


@pytest.fixture(autouse=True)
def _back(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_what_was_made_and_is_made_no_more(tmp_path):
    assert find(tmp_path, *MADE_ONCE) == ["results/labels/old.parquet"]


@pytest.mark.parametrize("name", ["README.md", "labels/mine.parquet", ".hidden", "logs/notes.txt", "audio/a-b.csv"])
def test_what_the_workflow_did_not_make_is_not_listed(tmp_path, name):
    assert find(tmp_path, f"results/{name}") == []


@pytest.mark.parametrize(
    ("name", "orphan"),
    [
        ("logs/train/base.log", False),
        ("logs/train/old.log", True),
        ("benchmarks/train/old.tsv", True),
        (".reuse/hubert/train/shard-000-00ff.pooled.tfrecord", False),
        (".reuse/hubert/train/shard-000-00ff.frames.tfrecord", False),
        (".reuse/hubert/train/shard-001-00ff.pooled.tfrecord", True),
        (".reuse/old/train/shard-000-00ff.pooled.tfrecord", True),
        ("manifests/encoder-hubert-digests.parquet", False),
        ("manifests/encoder-old-digests.parquet", True),
    ],
)
def test_what_is_known_by_its_name(tmp_path, name, orphan):
    assert find(tmp_path, f"results/{name}") == ([f"results/{name}"] if orphan else [])


def test_a_temporary_file_counts_once_it_is_abandoned(tmp_path):
    name = "results/.table-abcd1234.csv"
    assert find(tmp_path, name, "results/.other-abcd1234.csv") == []
    for path in (tmp_path / "results").iterdir():
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    assert find(tmp_path) == [name]


def test_removing_takes_empty_folders_along(tmp_path):
    listed = find(tmp_path, "results/logs/train/old.log", "results/logs/train/base.log", "results/benchmarks/a/b/c.tsv")
    orphans.remove(listed, tmp_path.__class__("results"))
    assert sorted(map(str, (tmp_path / "results").rglob("*"))) == [
        str(tmp_path / "results" / name) for name in ("logs", "logs/train", "logs/train/base.log")
    ]
