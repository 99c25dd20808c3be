"""Tuning depends on training and validation alone, and what is tuned on the grid."""

import csv

import pytest
from changes import add_ablation, change_config, change_label, edit, replace
from expected_jobs import BOTH, labels, scores, training

from ser.files import read_json

pytestmark = pytest.mark.long
GRID = {"learning_rate": [0.0001, 0.01], "mlp": [[8]]}
TUNED = {"tune_ablation base"}


@pytest.fixture(scope="module")
def tuned(built, tmp_path_factory):
    """A finished project with an ablation that is trained with the best settings of `base`."""
    project = built.copy(tmp_path_factory.mktemp("tuned") / "project")
    with project.configure() as config:
        config["tuning"] = GRID
    project.expect_plan(set())  # a grid alone is no part of the study
    assert project.plan("results/tuning/base.csv") == TUNED
    add_ablation(project, name="best", encoder="plain", layer="weighted", tuned="base")
    project.expect(TUNED | training("best"))
    return project


@pytest.fixture
def project(tuned, tmp_path):
    return tuned.copy(tmp_path / "project")


def test_an_ablation_is_trained_with_the_best_settings(tuned):
    """With those settings `base`'s tuning reached the score that this one's training has."""
    results = tuned.work / "results"
    winner = read_json(results / "tuning/base.json")
    with open(results / "tuning/base.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["ccc"]) == max(float(row["ccc"]) for row in rows) and len(rows) == winner["points"] == 2
    assert float(rows[0]["learning_rate"]) == winner["settings"]["learning_rate"]
    with open(results / "models/best/seed-1/history.csv", newline="") as file:
        kept = {row["target"]: row["validation_ccc"] for row in csv.DictReader(file) if row["best"] == "1"}
    assert {target: float(ccc) for target, ccc in kept.items()} == {t: float(rows[0][f"{t}_ccc"]) for t in kept}


def test_another_grid_trains_what_is_tuned_alone(project):
    change_config(project, "tuning", learning_rate=[0.0001, 0.02])
    project.expect_plan(TUNED | training("best"))


def test_test_data_tune_nothing(project):
    change_label(project, "test_0/u0.wav")
    replace(project, "test_4/u0.wav")
    planned = project.plan()
    assert scores("test", *BOTH, "best") | labels("test") <= planned
    assert not [job for job in planned if job.startswith(("tune", "train"))]


def test_training_labels_tune_anew(project):
    change_label(project, "train_1/u0.wav")
    project.expect_plan(labels("train") | TUNED | training(*BOTH, "best"))


def test_tuning_code_trains_what_is_tuned_alone(project):
    edit(project, "ser/heads/tuning.py")
    project.expect_plan(TUNED | training("best"))


def test_without_a_grid_what_was_tuned_is_an_orphan(project):
    with project.configure() as config:
        del config["tuning"]
        config["ablations"] = [ablation for ablation in config["ablations"] if ablation["name"] != "best"]
    listed = project.run("--dry-run", "prune").stdout
    assert "results/tuning/base.json" in listed and "results/models/best/seed-1/model.keras" in listed
    assert "results/models/base/" not in listed
