"""Kills, full disks, damaged files: nothing half-written is taken for a result, and a rerun gives an undisturbed one.

What an undisturbed run gives is the finished project's artefacts, to the byte. A cluster's faults are in test_slurm.py.
Each test prints how long the rerun took, which `python -m pytest -rP` shows.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from changes import change_label
from cluster import wait_for
from expected_jobs import TABLES

MOUNTS = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0,
    reason="mounting a file system needs root",
)
# What is removed, so that a run has some jobs of each stage but training to do.
LOST = ["embeddings/plain/test", "encoder_summaries/plain/test.parquet", "calibration", "protocol.json"]
LOST += ["predictions/base/seed-1/test.parquet", "ablation_table.csv", "audio/test", "speakers/test", "metadata"]


def remove(project, *names):
    for name in names:
        path = project.work / "results" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def start(project, *arguments) -> subprocess.Popen:
    """A run in the background, in a session of its own."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", project.checkout / "Snakefile"]
    command += ["--directory", project.work, "--cores", 2, "--nocolor", *arguments]
    return subprocess.Popen(
        list(map(str, command)), start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def jobs_of(project) -> list[psutil.Process]:
    """The processes that run a rule's script for this project now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(f"{project.work}/.snakemake/scripts/" in word for word in process.cmdline()[1:2]):
                found.append(process)
    return found


def fail(project, *arguments) -> str:
    """Run, expect that it fails, and return what it said."""
    done = project.run(*arguments, check=False)
    assert done.returncode == 1, done.stderr
    return done.stdout + done.stderr


def recover(project, built):
    """A run, and there is what there was; but for temporary files of killed jobs, which `prune` removes a day later."""
    begin = time.monotonic()
    project.build()
    print(f"recovered in {time.monotonic() - begin:.0f} s")
    found = {name: content for name, content in project.artefacts().items() if not Path(name).name.startswith(".")}
    assert found == built.artefacts()
    project.expect_plan(set())


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_snakemake_is_killed(built, project, seed):
    """At a random moment: with its jobs, or alone, so that these go on as orphans while the next run starts."""
    rng = random.Random(seed)
    remove(project, *LOST)
    process = start(project)
    wait_for(lambda: jobs_of(project), "the first job")
    time.sleep(rng.uniform(0, 15))
    if rng.random() < 0.5:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    if list((project.work / ".snakemake/locks").glob("*")):  # none where the run had ended already
        assert "Directory cannot be locked" in fail(project)
        project.run("--unlock")
    recover(project, built)


def test_a_job_is_killed(built, project):
    remove(project, "embeddings/plain/test", "encoder_summaries/plain/test.parquet", "ablation_table.csv")
    target = "results/encoder_summaries/plain/test.parquet"
    process = start(project, target)
    wait_for(lambda: jobs_of(project), "a job")[0].kill()
    said, _ = process.communicate()
    assert process.returncode == 1 and "Error in rule embed_shard" in said
    project.build(target)
    recover(project, built)


@contextlib.contextmanager
def file_system(project, size):
    """The results on a file system of their own of `size` bytes, and a function that remounts it."""
    results, aside = project.work / "results", project.folder / "aside"
    results.rename(aside)
    results.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", results], check=True)
    try:
        subprocess.run(["cp", "-a", f"{aside}/.", results], check=True)
        yield lambda how: subprocess.run(["mount", "-o", f"remount,{how}", results], check=True)
    finally:
        subprocess.run(["umount", "-l", results], check=True)


@pytest.mark.long
@MOUNTS
@pytest.mark.parametrize("kind", ["full", pytest.param("read-only", marks=pytest.mark.slow)])
def test_a_disk_that_takes_nothing(built, project, kind):
    """A clear error, nothing half-written; and when there is room, all goes on."""
    used = sum(path.stat().st_size // 4096 + 1 for path in (project.work / "results").rglob("*")) * 4096
    with file_system(project, 2 * used + (1 << 24)) as remount:
        target = project.work / "results/embeddings/plain/test/shard-000.tfrecord"
        filler = project.work / "results/filler"
        target.unlink()
        shutil.rmtree(project.work / "results/.reuse")
        before = project.artefacts()
        if kind == "full":
            with contextlib.suppress(OSError), open(filler, "wb") as file:
                while file.write(b"0" * 4096):
                    file.flush()
            message = "No space left on device"
        else:
            remount("ro")
            message = "Read-only file system"
        assert message in fail(project, target.relative_to(project.work))
        filler.unlink(missing_ok=True) if kind == "full" else remount("rw")
        assert project.artefacts() == before
        project.build(target.relative_to(project.work))
        recover(project, built)


@pytest.mark.long
def test_two_runs_at_once(built, project):
    """The second says that the first is there, and does no harm."""
    remove(project, "calibration", "ablation_table.csv")
    first = start(project)
    wait_for(lambda: list((project.work / ".snakemake/locks").glob("*")), "the lock")
    os.killpg(first.pid, signal.SIGSTOP)  # or it may end while the second starts
    try:
        assert "Directory cannot be locked" in fail(project)
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    said, _ = first.communicate()
    assert first.returncode == 0, said
    recover(project, built)


def truncate(path):
    os.truncate(path, path.stat().st_size * 2 // 3)


def flip(path):
    """One bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def shorten(path):
    """Cut a TFRecord file between two records."""
    content = path.read_bytes()
    os.truncate(path, 16 + int.from_bytes(content[:8], "little"))


PREDICTED = ["predictions/base/seed-1/test.parquet", "calibrated/base/seed-1/test.parquet", "ablation_table.csv"]
# what is damaged, and what is lost beside it, so that it is read
DAMAGED = [
    ("embeddings/plain/test/shard-000.tfrecord", PREDICTED),
    ("labels/test.parquet", ["ablation_table.csv"]),
    ("calibrated/base/seed-1/test.parquet", ["ablation_table.csv"]),
    ("calibration/base/choices.json", PREDICTED[1:]),
    ("speakers/test/shard-000.json", PREDICTED[1:]),
    ("models/base/seed-1/model.keras", PREDICTED),
]
MARKS = {  # all others are slow
    ("labels/test.parquet", flip): (),
    ("embeddings/plain/test/shard-000.tfrecord", truncate): pytest.mark.long,
}
DAMAGES = [
    pytest.param(name, lost, damage, marks=MARKS.get((name, damage), pytest.mark.slow))
    for name, lost in DAMAGED
    for damage in ((truncate, flip, shorten) if name.endswith("tfrecord") else (truncate, flip))
]


@pytest.mark.parametrize(("name", "lost", "damage"), DAMAGES)
def test_a_damaged_file_is_named(built, project, name, lost, damage):
    """Its date is the old one, as when a disk loses it; deleted, it is made again."""
    path = project.work / "results" / name
    status = path.stat()
    damage(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    remove(project, *lost)
    said = fail(project)
    assert f"{name}: " in said or f"{name} " in said
    path.unlink()
    if name.startswith("models"):  # slow to make again; what is made is the same, as others test
        shutil.copy2(built.work / "results" / name, path)
    recover(project, built)


@pytest.mark.parametrize("damage", [truncate, flip])
def test_damage_to_the_index_is_repaired(built, project, damage):
    for name in ("index.json", "train/shard-000.csv", "audio_digests.parquet"):
        damage(project.work / "results/manifests" / name)
    recover(project, built)


@pytest.mark.slow
def test_a_clock_set_back(built, project):
    """Everything there is of tomorrow: Snakemake refuses, until that is dated yesterday; content counts, not the date.

    Only what is of tomorrow: with one date for all, what the refused run has made would no longer be newer.
    """
    for path in project.work.rglob("*"):
        os.utime(path, (time.time() + 86400,) * 2)
    sheet = (project.corpus / "labels.csv").read_bytes()
    change_label(project, "test_0/u0.wav")
    assert "This could indicate a clock skew problem" in fail(project)
    for path in project.work.rglob("*"):
        if path.stat().st_mtime > time.time():
            os.utime(path, (time.time() - 86400,) * 2)
    assert project.build() >= TABLES
    assert project.artefacts()["ablation_table.csv"] != built.artefacts()["ablation_table.csv"]
    (project.corpus / "labels.csv").write_bytes(sheet)
    recover(project, built)


LATE = """
import os, sys, time
if any(".snakemake/scripts/" in word for word in sys.orig_argv[1:2]):
    replace = os.replace
    def late(source, target, **options):  # the name appears when the job has ended
        os.link(source, f"{source}.late")
        if os.fork() == 0:
            os.setsid()
            time.sleep(3)
            replace(f"{source}.late", target, **options)
            os._exit(0)
        os.unlink(source)
    os.replace = late
"""


@pytest.mark.slow
def test_outputs_appear_late(built, project, tmp_path, monkeypatch):
    """As on a network file system: files have their names 3 s after the job that made them."""
    (tmp_path / "sitecustomize.py").write_text(LATE)
    remove(project, "calibration", "calibrated", "ablation_table.csv")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        project.run("--latency-wait", "30")
    recover(project, built)


def list_tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.long
def test_nothing_is_written_elsewhere(built, project, tmp_path, monkeypatch):
    """But under results/ and .snakemake/: not in the checkout, the corpus, the home or what is for temporary files."""
    places = {name: tmp_path / name for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for name, path in places.items():
        path.mkdir()
        monkeypatch.setenv(name, str(path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    remove(project, *LOST)
    before = list_tree(project.folder)
    project.build()
    new = {path for path in list_tree(project.folder) - before if path != "jobs.jsonl"}
    assert {path for path in new if not path.startswith(("work/results/", "work/.snakemake/"))} == set()
    assert list_tree(places["TMPDIR"]) == set()
    caches = {path for name in ("HOME", "XDG_CACHE_HOME") for path in list_tree(places[name])}
    assert {path for path in caches if "snakemake" not in path} <= {".cache"}  # where Snakemake keeps remote sources
    assert project.artefacts() == built.artefacts()
