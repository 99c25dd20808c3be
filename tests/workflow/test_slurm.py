"""Through profiles/slurm on a real SLURM of this machine, whole and through faults: the bytes of a local run.

Each fault's test prints how long it took from then to the end of the run, which `python -m pytest -rP` shows.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from cluster import NODES, PROGRAMS, USER_OPTIONS, find_missing, run_cluster, wait_for

ROOT = Path(__file__).parents[2]
PROFILE = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8"))
MEASURED = [f"results/{kind}" for kind in ("audio/test/shard-001.parquet", "speakers/test/shard-001.json")]
ENVIRONMENT = dict(os.environ)  # without the cluster of these tests, whose commands stand in front of SLURM's
AWAY = 30  # seconds that the controller is away

needs_slurm = pytest.mark.skipif(bool(find_missing()), reason=find_missing() or "SLURM is there")


@pytest.fixture(scope="module")
def cluster():
    with run_cluster() as cluster:
        yield cluster


def submit(project, *arguments):
    return project.run("--profile", project.checkout / "profiles" / "slurm", *USER_OPTIONS, *arguments)


def remove(project, *names):
    for name in names:
        path = project.work / "results" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def measure(project, disturb, *arguments):
    """Measure a shard's audio while something happens to the job once it runs; return what Snakemake said."""
    for name in MEASURED:
        (project.work / name).unlink()
    problems, said = [], []

    def run():
        try:
            said.append(submit(project, *arguments, "--", *MEASURED).stderr)
        except BaseException as error:  # pytest.fail, in this thread
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        disturb()
    finally:
        begin = time.monotonic()
        thread.join()
        print(f"recovered in {time.monotonic() - begin:.0f} s")
    if problems:
        raise problems[0]
    return said[0]


def wait_for_start(cluster):
    """The `(id, node)` of a job of the workflow, once it runs."""
    return wait_for(lambda: cluster.jobs("R"), "a running job")[0][:2]


@pytest.mark.slow
@needs_slurm
def test_the_same_bytes_as_on_one_machine(built, project, cluster):
    """From the embeddings of a test split to the tables: jobs on nodes and on the GPU's node, alone and in groups."""
    remove(project, "embeddings/plain/test", "encoder_summaries/plain/test.parquet", "calibration", "calibrated")
    remove(project, "protocol.json", "ablation_table.csv", "metadata")
    submit(project)
    jobs = [line.split("|") for line in cluster.ask("squeue", "-h", "-t", "all", "-o", "%k|%T|%N|%C|%m").splitlines()]
    assert {state for _, state, *_ in jobs} == {"COMPLETED"}
    assert {node for rule, _, node, *_ in jobs if rule.startswith("rule_embed_shard_")} == {NODES[0]}
    groups = sorted(rule for rule, *_ in jobs if "calibrat" in rule or "score" in rule)
    assert groups == [
        "rule_calibration_calibrate_choose_calibration",
        "rule_calibration_calibrate_choose_calibration",
        "rule_tables_check_protocol_score_score_groups_study_label_shift",
    ]
    # One of them at a time: three tables at once would ask for three CPUs, which these nodes do not have.
    assert {(cpus, memory) for rule, *_, cpus, memory in jobs if rule in groups} == {("1", "2000M"), ("1", "4000M")}
    assert project.artefacts() == built.artefacts()
    project.expect_plan(set())


@pytest.mark.long
@needs_slurm
def test_a_node_goes_down_with_its_job(built, project, cluster):
    def disturb():
        job, node = wait_for_start(cluster)
        cluster.kill_node(node)
        try:
            wait_for(lambda: cluster.has_restarted(job), "the job requeued", 120)
        finally:
            cluster.start_node(node)

    measure(project, disturb)
    assert project.artefacts() == built.artefacts()


@pytest.mark.long
@needs_slurm
def test_a_job_over_its_memory_gets_more(built, project, cluster):
    said = measure(project, lambda: None, "--set-resources", "measure_audio:mem_mb=1 if attempt == 1 else 2000")
    assert "Trying to restart job" in said
    assert project.artefacts() == built.artefacts()


@needs_slurm
@pytest.mark.slow
def test_a_preempted_job_starts_again(built, project, cluster):
    def disturb():
        job, _ = wait_for_start(cluster)
        urgent = ["sbatch", "-p", "urgent", "-N", len(NODES), "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2"]
        subprocess.run(list(map(str, urgent)), check=True, capture_output=True)
        wait_for(lambda: cluster.has_restarted(job), "the job requeued")

    measure(project, disturb)
    assert project.artefacts() == built.artefacts()


@needs_slurm
@pytest.mark.slow
def test_the_controller_is_away(built, project, cluster):
    """The job ends meanwhile; Snakemake goes on when the controller knows of it.

    By `sacct`: told to use `squeue`, the plugin (2.8.0) turns to `sacct` while it cannot reach the controller, where
    accounting is disabled loses sight of its jobs, and waits for ever.
    """

    def disturb():
        wait_for(lambda: ".0|" in cluster.ask("squeue", "-s", "-h", "-o", "%i|"), "a step")  # to start one needs it
        cluster.stop_controller()
        time.sleep(AWAY)
        cluster.start_controller()

    measure(project, disturb, "--slurm-status-command", "sacct")
    assert project.artefacts() == built.artefacts()


@needs_slurm
@pytest.mark.slow
def test_the_demo_from_nothing():
    """The script's own: the demo through the profile on a new cluster, in a folder of its own."""
    script = ROOT / "tests" / "workflow" / "cluster.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_says_what_is_missing(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(os, "defpath", "")
    missing = find_missing()
    assert not missing or set(missing.split(" not ")[0].split(", ")) <= set(PROGRAMS) or "plugin" in missing


def test_the_profile_names_the_rules():
    """A name in it that is no rule would go unnoticed; a rule that it does not name is given the default."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    bodies = re.split(r"^(?:use rule \w+ as |rule )(\w+)", text, flags=re.M)[1:]
    rules = dict(zip(bodies[::2], bodies[1::2], strict=True))
    local = {name for names in re.findall(r"^localrules:\n((?:    \w+,\n)+)", text, re.M) for name in names.split(",")}
    targets = {name for name, body in rules.items() if body.startswith(":") and "\n    script:" not in body}
    assert set(PROFILE["set-resources"]) | set(PROFILE["groups"]) <= set(rules)
    on_nodes = set(rules) - targets - set(map(str.strip, local))
    assert {"measure_audio", "embed_shard_with_frames", "train_ablation"} <= on_nodes <= set(PROFILE["set-resources"])


def test_jobs_of_a_group_take_turns():
    """Side by side they would ask for the CPUs and the memory of all: on a small node they would wait for ever."""
    assert "in_turn=1" in PROFILE["resources"] and "in_turn=local" in PROFILE["set-resource-scopes"]
    assert [rule for rule in PROFILE["groups"] if PROFILE["set-resources"][rule].get("in_turn") != 1] == []


def test_the_plugin_is_the_one_of_the_profile():
    """requirements-slurm.txt is for users, requirements-dev.txt for the tests."""
    pins = (ROOT / "envs" / "requirements-slurm.txt").read_text(encoding="utf-8").splitlines()
    tested = (ROOT / "envs" / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    assert {pin for pin in pins if not pin.startswith("#")} <= set(tested)
