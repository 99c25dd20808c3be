"""Fine-tuned ablations in the workflow: what trains them, what does not, and that a killed run goes on."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from made_corpus import read_sheet, write_sheet, write_utterance

from ser.files import read_json

pytestmark = pytest.mark.long

TUNED = {"epochs": 2, "batch_size": 12, "learning_rate": 0.001, "threads": 1, "checkpoint_steps": 1}
ROWS = {
    "tuned": {"encoder": "plain", "finetune": {"method": "top", "layers": 1}},
    "adapted": {"encoder": "framed", "finetune": {"method": "lora", "rank": 2}, "head": "transformer"},
}


@pytest.fixture(scope="module")
def tuned(built, tmp_path_factory):
    """A finished project with frozen and fine-tuned ablations."""
    project = built.copy(tmp_path_factory.mktemp("tuned") / "project")
    with project.configure() as config:
        config["ablations"] += [{"name": name} | settings for name, settings in ROWS.items()]
        config["finetuning"] = TUNED
    project.build()
    assert not project.plan()
    return project


@pytest.fixture
def project(tuned, tmp_path):
    return tuned.copy(tmp_path / "project")


def rules_of(jobs):
    return {job.split()[0] for job in jobs}


def test_another_ablation_costs_nothing_but_itself(tuned, built):
    """What was there before was not made again: the frozen rows' models are the same files."""
    for name in ("base", "fused"):
        path = f"results/models/{name}/seed-1/model.keras"
        assert (tuned.work / path).read_bytes() == (built.work / path).read_bytes()


def test_the_table_says_how_an_encoder_was_tuned(tuned):
    with open(tuned.work / "results/ablation_table.csv", newline="") as file:
        encoders = {row["ablation"]: row["encoder"] for row in csv.DictReader(file)}
    assert encoders["base"] == "plain"
    assert encoders["tuned"].startswith("plain (top 1 layers fine-tuned")
    assert encoders["adapted"].startswith("framed (lora 2")


def test_only_what_a_head_reads_is_kept(tuned):
    from ser.formats.tfrecord import read

    folder = tuned.work / "results"
    (pooled, *_) = read(folder / "embeddings/finetuned/tuned/seed-1/test/shard-000.tfrecord")
    (frames, *_) = read(folder / "frames/finetuned/adapted/seed-1/test/shard-000.tfrecord")
    assert pooled.embedding.shape == (1, 192) and frames.embedding.shape == (frames.n_frames, 192)
    assert not (folder / "frames/finetuned/tuned").exists() and not (folder / "encoder_summaries/finetuned").exists()


def test_a_model_card_says_what_tuning_made_of_the_encoder(tuned):
    text = (tuned.work / "results/models/tuned/README.md").read_text()
    assert "`results/finetuned/tuned/seed-1`" in text and "the encoder's output" in text
    assert "finetuned/" not in (tuned.work / "results/models/base/README.md").read_text()


def test_the_report_has_the_curves_of_tuning_and_what_it_cost(tuned):
    text = (tuned.work / "results/report.html").read_text()
    assert ">finetune_ablation<" in text and "Fine-tuning of adapted, tuned, together with the head" in text
    assert "loss, fine-tuning" in text and "tuned/seed-1" in text


@pytest.mark.parametrize("name", ROWS)
def test_a_figure_is_traced_to_its_encoder(tuned, name):
    script = tuned.checkout / "workflow_scripts" / "explain.py"
    cell = ["--ablation", name, "--calibration", "mu_sigma", "--target", "arousal", "--split", "test"]
    done = subprocess.run([sys.executable, script, *cell, "--json"], cwd=tuned.work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    explained = json.loads(done.stdout)
    assert not explained["differences"] and list(explained["tuned"]) == [f"finetuned/{name}/seed-1"]
    assert list(explained["files"]["tuned encoders"]) == [f"results/finetuned/{name}/seed-1/model.safetensors"]
    text = subprocess.run([sys.executable, script, *cell], cwd=tuned.work, capture_output=True, text=True)
    assert f"Fine-tuned as finetuned/{name}/seed-1" in text.stdout


def test_a_test_file_costs_its_own_forward_pass_and_trains_nothing(project):
    before = read_json(project.work / "results/finetuned/tuned/seed-1/card.json")
    write_utterance(project.corpus / "audio" / "test_4/u1.wav", (2.0, 3.0, 4.0), voice=0.5, seed=900)
    planned = project.plan()
    assert rules_of(planned).isdisjoint({"finetune_ablation", "train_ablation", "predict_heard", "prepare_encoder"})
    assert {"predict_split tuned test", "predict_split adapted test"} <= planned
    assert project.build() == planned and not project.plan()
    log = project.work / "results/logs/embed_shard/finetuned/tuned/seed-1/test/shard-001.log"
    assert "1 embedded" in log.read_text() and "3 reused" in log.read_text()
    assert read_json(project.work / "results/finetuned/tuned/seed-1/card.json") == before


def test_a_training_label_tunes_anew_and_a_test_label_does_not(project):
    rows = read_sheet(project.corpus)
    next(row for row in rows if row["split"] == "test")["valence"] = "1.25"
    write_sheet(project.corpus, rows)
    assert "finetune_ablation" not in rules_of(project.plan())
    rows[0]["valence"] = "1.25"
    write_sheet(project.corpus, rows)
    planned = project.plan()
    assert {job for job in planned if job.startswith("finetune_ablation")} == {
        "finetune_ablation tuned",
        "finetune_ablation adapted",
    }
    assert {job.split()[1] for job in planned if job.startswith("embed_shard")} == {
        "finetuned/tuned/seed-1",
        "finetuned/adapted/seed-1",
    }


def test_settings_of_one_reach_no_other(project):
    with project.configure() as config:
        config["ablations"][-2]["finetune"]["layers"] = 2
        config["training"]["learning_rate"] = 0.002  # of heads on features that stay as they are
    jobs = {job for job in project.plan() if job.split()[0] in ("finetune_ablation", "train_ablation")}
    assert jobs == {"finetune_ablation tuned", "train_ablation base", "train_ablation fused"}


def test_what_a_row_that_is_gone_has_left_is_an_orphan(project):
    with project.configure() as config:
        del config["ablations"][-2]
    listed = project.run("-n", "prune").stdout
    for path in ("finetuned/tuned/seed-1/model.safetensors", "models/tuned/seed-1/model.keras"):
        assert f"results/{path}" in listed
    assert ".reuse/finetuned/tuned/seed-1/test/shard-000" in listed
    assert "finetuned/adapted" not in listed and ".reuse/plain" not in listed


@pytest.mark.parametrize(
    ("finetune", "message"),
    [
        ({"method": "top", "layers": 7}, "layers is 7, but encoder 'plain' has 6"),
        ({"method": "lora", "rank": 193}, "rank is 193, above the width of encoder 'plain', 192"),
        ({"batch_size": 25}, "the training split has 24 utterances, fewer than a batch"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(project, finetune, message):
    with project.configure() as config:
        config["ablations"][-2]["finetune"] = finetune
    done = project.run("-n", check=False)
    assert done.returncode and message in done.stderr + done.stdout


def test_tuning_that_was_killed_goes_on_to_the_same_encoder(project):
    with project.configure() as config:
        config["finetuning"] = TUNED | {"epochs": 6, "patience": 6}
    target = "results/finetuned/tuned/seed-1/card.json"
    whole = project.copy(project.folder.parent / "whole")
    whole.build(target)

    checkpoint = project.work / "results/.checkpoints/finetuned/tuned/seed-1.pt"
    command = [sys.executable, "-m", "snakemake", "--snakefile", project.checkout / "Snakefile"]
    command += ["--directory", project.work, "--cores", "1", target]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    project.run("--unlock")
    project.build(target)
    log = (project.work / "results/logs/finetune_ablation/tuned/seed-1.log").read_text()
    assert "resumed after step" in log
    for name in ("finetuned/tuned/seed-1/model.safetensors", "finetuned/tuned/seed-1/training.csv"):
        path = f"results/{name}"
        assert (project.work / path).read_bytes() == (whole.work / path).read_bytes(), name
    assert (project.work / "results/models/tuned/seed-1/model.keras").read_bytes() == (
        whole.work / "results/models/tuned/seed-1/model.keras"
    ).read_bytes()
    assert not checkpoint.exists()
