"""What a run reads and finds in its folder belongs to others: nothing of it is run, removed or written to."""

import json

import pytest
from project import Project

from ser.files import sha256

READING = [["-n"], ["--lint"], ["--list-rules"], ["--summary"]]  # none of these starts a job


@pytest.fixture
def fresh(tmp_path):
    """A project without results."""
    return Project(tmp_path / "project").make()


def touch(path, text="precious\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_reading_the_workflow_removes_nothing(fresh):
    manifests = fresh.work / "results/manifests"
    manifests.mkdir(parents=True)
    foreign = [touch(fresh.folder / "other/shard-000.csv"), touch(manifests / "mine/notes.csv")]
    (manifests / "old").symlink_to(fresh.folder / "other")
    fresh.plan()
    own = sorted((manifests / "test").glob("*.csv"))
    with fresh.configure() as config:  # the index of another config lists other manifests
        config["corpus"]["shards"] = 1
    for arguments in READING:
        fresh.run(*arguments)
    assert all(path.read_text() == "precious\n" for path in foreign)
    assert [path for path in own if not path.is_file()] == []


def test_a_run_removes_what_an_index_wrote_and_nothing_else(fresh):
    manifests = fresh.work / "results/manifests"
    fresh.plan()
    foreign = touch(manifests / "old/shard-000.csv")
    changed = touch(manifests / "train/shard-001.csv")  # no longer what the index wrote
    outside = touch(fresh.folder / "other/shard-001.csv")
    (manifests / "test/shard-001.csv").unlink()
    (manifests / "test/shard-001.csv").symlink_to(outside)
    with fresh.configure() as config:
        config["corpus"]["shards"] = 1
    fresh.run("results/labels/test.parquet")
    assert foreign.is_file() and outside.is_file() and changed.read_text() == "precious\n"
    assert not (manifests / "validation/shard-001.csv").exists()  # the index' own
    assert json.loads((manifests / "index.json").read_text())["gone"] == {}


def test_nothing_is_written_while_another_run_is_at_work(fresh):
    fresh.plan()
    manifests = fresh.work / "results/manifests"
    before = {path: (path.stat().st_mtime_ns, sha256(path)) for path in sorted(manifests.rglob("*.*"))}
    lock = touch(fresh.work / ".snakemake/locks/0.output.lock", "results/labels/test.parquet\n")
    with fresh.configure() as config:
        config["corpus"]["shards"] = 1
        config["encoders"]["framed"]["base"] = "encoders/plain"
    for arguments in ["-n"], ["--list-rules"], ["results/labels/test.parquet"], ["results/labels/train.parquet"]:
        done = fresh.run(*arguments, check=False)
        assert "another run is at work in this folder" in done.stdout + done.stderr
        after = {path: (path.stat().st_mtime_ns, sha256(path)) for path in sorted(manifests.rglob("*.*"))}
        assert after == before
    assert done.returncode  # its targets are not locked, but its jobs would read the other run's index
    fresh.run("--unlock")
    assert not lock.exists()
    fresh.run("results/labels/train.parquet")


def test_an_index_does_not_write_through_a_link(fresh):
    (fresh.folder / "other").mkdir()
    (fresh.work / "results/manifests").mkdir(parents=True)
    (fresh.work / "results/manifests/test").symlink_to(fresh.folder / "other")
    done = fresh.run("-n", check=False)
    assert done.returncode and "results/manifests/test: is a link" in done.stdout + done.stderr
    assert list((fresh.folder / "other").iterdir()) == []


def test_logs_and_benchmarks_are_not_written_through_links(fresh):
    outside = touch(fresh.folder / "other.txt")
    for name in ("logs/build_labels/test.log", "benchmarks/build_labels/test.tsv"):
        path = fresh.work / "results" / name
        path.parent.mkdir(parents=True)
        path.symlink_to(outside)
    fresh.run("results/labels/test.parquet")
    assert outside.read_text() == "precious\n"
    assert (fresh.work / "results/benchmarks/build_labels/test.tsv").read_text().startswith("s\t")


YTE = {
    "as it is": "__use_yte__: true\n?if open('ran', 'w'):\n  baseline: base\n",
    "escaped": "\"__use\\x5fyte__\": 1\n?if open('ran', 'w'):\n  baseline: base\n",
    "merged": "x: &x {__use_yte__: true}\n<<: *x\n?if open('ran', 'w'):\n  baseline: base\n",
    "tagged": "!!python/str '__use_yte__': true\n?if open('ran', 'w'):\n  baseline: base\n",
}


@pytest.mark.parametrize("text", YTE.values(), ids=YTE)
def test_a_config_is_no_program(fresh, text):
    path = fresh.work / "config.yaml"
    path.write_text(text + path.read_text())
    for arguments in ["-n"], ["--list-rules"]:
        done = fresh.run(*arguments, check=False)
        assert done.returncode and not (fresh.work / "ran").exists()
        assert (
            "config.yaml: has the key '__use_yte__'" in done.stdout + done.stderr
            or "is neither JSON nor plain YAML" in done.stdout + done.stderr
        )
