"""Adapted encoders in the workflow: who hears what, what a change rebuilds, and that a killed run goes on."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
from made_corpus import read_sheet, write_sheet, write_utterance
from safetensors.numpy import load_file

from ser.files import read_json

ENCODERS = ("plain", "tapt", "papt")
pytestmark = pytest.mark.long
PRETRAINING = {"epochs": 2, "batch_seconds": 2, "crop_seconds": 1, "code_width": 8, "threads": 1, "checkpoint_steps": 1}


@pytest.fixture(scope="module")
def adapted(built, tmp_path_factory):
    """A finished project with an encoder as it is, a TAPT and a PAPT one."""
    project = built.copy(tmp_path_factory.mktemp("adapted") / "project")
    with project.configure() as config:
        base = {"base": "encoders/plain", "threads": 1}
        config["encoders"] = {
            "plain": base,
            "tapt": base | {"adaptation": "tapt"},
            "papt": base | {"adaptation": "papt", "position": "first", "neighbours": 2},
        }
        config["pretraining"] = PRETRAINING
        config["pseudo_labels"] = {"mfcc": {"clusters": 5, "frames": 600}}
        config["ablations"] = [{"name": f"with-{name}", "encoder": name} for name in ENCODERS]
        config["baseline"] = "with-plain"
        config["calibration"] = {"methods": [{"name": "mu_sigma"}], "k": [1, 2], "min_reference_utterances": 1}
    project.build()
    assert not project.plan()
    return project


@pytest.fixture
def project(adapted, tmp_path):
    return adapted.copy(tmp_path / "project")


def test_an_adapted_encoder_has_its_curve_and_its_card(adapted):
    folder = adapted.work / "results" / "encoders"
    for name in ("tapt", "papt"):
        with open(folder / name / "training.csv", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
        assert [row["epoch"] for row in rows] == ["0", "1", "2"]
        card = read_json(folder / name / "card.json")
        assert (card["adaptation"], card["base"]) == (name, "encoders/plain")
        told = [sentence.split(":")[0] for sentence in card["heard"]]
        assert told == ["encoders/plain", "train (clusters)", "train"] and "encoders/plain: unknown" in card["heard"]
    assert not list((adapted.work / "results").glob(".checkpoints/*"))


def test_speakers_that_pre_training_heard_have_their_own_vector_and_others_the_mean_of_two(adapted):
    results = adapted.work / "results"
    head = load_file(results / "encoders" / "papt" / "adaptation.safetensors")["speaker_vectors"]
    placed = {}
    for split in ("train", "validation", "test"):
        for shard in ("000", "001"):
            placed |= read_json(results / "speaker_embeddings" / "papt" / split / f"shard-{shard}.json")
    speakers = sorted({row["speaker"] for row in read_sheet(adapted.corpus)})
    heard = [speaker for speaker in speakers if speaker.startswith("train")]
    assert sorted(placed) == speakers and len(head) == len(heard)
    pairs = [(head[i] + head[j]) / 2 for i in range(len(head)) for j in range(i)]
    for speaker, vector in placed.items():
        if speaker in heard:
            assert abs(head[heard.index(speaker)] - vector).max() < 1e-6
        else:
            assert min(abs(pair - vector).max() for pair in pairs) < 1e-6


def test_rows_say_that_a_personalised_encoder_needs_the_test_speakers_audio(adapted):
    with open(adapted.work / "results" / "ablation_table.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["calibration"] == "none" and row["split"] == "test"]
    protocols = {row["ablation"]: row["protocol"] for row in rows if row["ablation"].startswith("with-")}
    assert protocols == {"with-plain": "inductive", "with-tapt": "inductive", "with-papt": "transductive"}


def test_rows_of_an_encoder_that_heard_test_speakers_are_transductive(project):
    with project.configure() as config:
        config["encoders"]["tapt"]["splits"] = ["train", "test"]
    planned = project.plan()
    assert {"adapt_encoder tapt", "score"} <= planned
    assert planned.isdisjoint({"adapt_encoder plain", "adapt_encoder papt", "fit_clusters"})


def test_what_an_encoder_of_another_run_heard_is_not_forgotten(project, tmp_path):
    """As base, and as giver of clusters: before, such rows were inductive. The other run calls the test split else."""
    other = project.copy(tmp_path / "other")
    with other.configure() as config:
        config["encoders"] = {"tapt": config["encoders"]["tapt"] | {"splits": ["test"]}}
        config["ablations"], config["baseline"] = [{"name": "with-tapt"}], "with-tapt"
    other.build("results/encoders/tapt/card.json")
    given = other.work / "results/encoders/tapt"
    with project.configure() as config:
        config["encoders"] = {
            "plain": {"base": "encoders/plain", "threads": 1},
            "further": {"base": str(given), "threads": 1},
            "twice": {"base": str(given), "threads": 1, "adaptation": "tapt"},
            "taught": {"base": "encoders/plain", "threads": 1, "adaptation": "tapt", "pseudo_labels": "given"},
        }
        config["pseudo_labels"]["given"] = {"centroids": str(given)}
        config["ablations"] = [{"name": f"with-{name}", "encoder": name} for name in config["encoders"]]
    project.build("results/ablation_table.csv")
    with open(project.work / "results" / "ablation_table.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["calibration"] == "none" and row["split"] == "test"]
    protocols = {row["encoder"]: row["protocol"] for row in rows if row["encoder"]}
    assert protocols == {"plain": "inductive"} | dict.fromkeys(("further", "twice", "taught"), "transductive")


def test_a_test_file_causes_no_pre_training(project):
    before = {name: (project.work / "results/encoders" / name / "card.json").read_bytes() for name in ENCODERS}
    write_utterance(project.corpus / "audio" / "test_4/u1.wav", (2.0, 3.0, 4.0), voice=0.5, seed=900)
    planned = project.plan()
    rules = {job.split()[0] for job in planned}
    assert rules.isdisjoint({"adapt_encoder", "fit_clusters", "label_frames", "prepare_encoder", "train_ablation"})
    assert {job for job in planned if job.startswith("embed_shard")} == {
        f"embed_shard {name} test 001" for name in ENCODERS
    }
    assert {job for job in planned if job.startswith("place_speakers")} == {"place_speakers papt test 001"}
    assert project.build() == planned and not project.plan()
    assert before == {name: (project.work / "results/encoders" / name / "card.json").read_bytes() for name in ENCODERS}


def test_a_training_file_is_heard_anew(project):
    write_utterance(project.corpus / "audio" / "train_0/u1.wav", (2.0, 3.0, 4.0), voice=0.5, seed=901)
    planned = project.plan()
    assert {"fit_clusters", "adapt_encoder tapt", "adapt_encoder papt", "embed_shard plain train 000"} <= planned
    assert "prepare_encoder plain" not in planned and "embed_shard plain test 000" not in planned


def test_settings_of_one_encoder_change_no_other(project):
    with project.configure() as config:
        config["encoders"]["papt"]["position"] = "last"
    planned = project.plan()
    assert "adapt_encoder papt" in planned
    assert {job.split()[1] for job in planned if job.startswith(("adapt", "embed", "train_"))} == {"papt", "with-papt"}


def test_other_neighbours_cause_no_pre_training(project):
    with project.configure() as config:
        config["encoders"]["papt"]["neighbours"] = 1
    planned = project.plan()
    rules = ("adapt_encoder", "place_speakers", "embed_shard")
    assert {job for job in planned if job.split()[0] in rules} == {
        f"{rule} papt {split} {shard}"
        for rule in ("place_speakers", "embed_shard")
        for split in ("validation", "test")
        for shard in ("000", "001")
    }


def test_a_label_causes_no_pre_training(project):
    rows = read_sheet(project.corpus)
    rows[0]["valence"] = "1.25"
    write_sheet(project.corpus, rows)
    assert {job.split()[0] for job in project.plan()}.isdisjoint({"adapt_encoder", "fit_clusters", "embed_shard"})


def test_pre_training_that_was_killed_goes_on_to_the_same_encoder(project):
    with project.configure() as config:
        config["pretraining"] = PRETRAINING | {"epochs": 8}
    target = "results/encoders/tapt/card.json"
    whole = project.copy(project.folder.parent / "whole")
    whole.build(target)

    checkpoint = project.work / "results" / ".checkpoints" / "tapt.pt"
    command = [sys.executable, "-m", "snakemake", "--snakefile", project.checkout / "Snakefile"]
    command += ["--directory", project.work, "--cores", "1", target]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.exists() and not (project.work / target).exists()

    project.run("--unlock")
    project.build(target)
    log = (project.work / "results/logs/adapt_encoder/tapt.log").read_text()
    assert "resumed after step" in log
    for name in ("model.safetensors", "adaptation.safetensors", "training.csv"):
        path = f"results/encoders/tapt/{name}"
        assert (project.work / path).read_bytes() == (whole.work / path).read_bytes(), name
    assert not checkpoint.exists()
