"""Where figures come from and why they changed, asked of real runs."""

import csv
import json
import subprocess
import sys
from itertools import product

import audmetric
import numpy as np
import pyarrow.parquet as pq
import pytest
from changes import replace

from ser.files import read_json, sha256


def ask(project, script, *arguments):
    """What a script of the project's checkout prints as JSON, asked in its working folder."""
    command = [sys.executable, project.checkout / "workflow_scripts" / script, *arguments, "--json"]
    done = subprocess.run(command, cwd=project.work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read_table(project):
    with open(project.work / "results/ablation_table.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("ablation", "calibration"),
    [
        ("base", "none"),
        ("base", "enrol"),
        ("base", "mfcc"),
        ("fused", "mu_sigma"),
        ("fused", "ceiling of A-CCC (test labels)"),
    ],
)
def test_a_cell_is_explained(built, ablation, calibration):
    cell = {"ablation": ablation, "calibration": calibration, "target": "arousal", "split": "test"}
    explained = ask(built, "explain.py", *(word for name, value in cell.items() for word in (f"--{name}", value)))
    row = next(row for row in read_table(built) if cell.items() <= row.items())
    assert explained["figures"] == {name: text for name, text in row.items() if text and name not in cell}
    assert explained["differences"] == {}
    assert explained["code_changed_since"] == []
    assert all(seed["largest_difference"] < 1e-5 for seed in explained["seeds"])  # float32
    if not calibration.endswith("(test labels)"):
        labels = pq.read_table(built.work / "results/labels/test.parquet", columns=["utterance_id", "arousal"])
        truth = dict(zip(*labels.to_pydict().values(), strict=True))
        rows = pq.read_table(built.work / f"results/calibrated/{ablation}/seed-1/test.parquet").to_pylist()
        rows = [row for row in rows if row["calibration"].split("/")[0] == calibration]  # one draw of enrolment
        pairs = {
            speaker: np.array([(truth[r["utterance_id"]], r["arousal"]) for r in rows if r["speaker_id"] == speaker])
            for speaker in {row["speaker_id"] for row in rows}
        }
        o_ccc = audmetric.concordance_cc(*np.concatenate(list(pairs.values())).T)
        a_ccc = np.mean([audmetric.concordance_cc(*pair.T) for pair in pairs.values()])
        found = [float(explained["figures"][name]) for name in ("o_ccc", "a_ccc")]
        np.testing.assert_allclose(found, [o_ccc, a_ccc], atol=2e-6)  # float32 predictions, 6 decimals


def test_the_provenance_has_the_digest_of_every_table_of_scores(built):
    """So that one that was edited is refused by those who read it."""
    tables = read_json(built.work / "results/provenance.json")["tables"]
    scores = {*(built.work / "results").glob("*.csv")} - {*(built.work / "results").glob("label_shift*")}
    assert tables == {path.name: sha256(path) for path in scores} and "group_table.csv" in tables


def test_the_command_of_a_cell_makes_its_inputs(project):
    cell = ["--ablation", "base", "--calibration", "none", "--target", "valence", "--split", "test"]
    command = ask(project, "explain.py", *cell)["command"].split()
    targets = [word for word in command if word.startswith("results/")]
    assert targets == ["results/calibrated/base/seed-1/test.parquet"]
    assert project.plan(*targets) == set()
    (project.work / targets[0]).unlink()
    assert project.plan(*targets) == {"calibrate base test"}


@pytest.mark.long
def test_one_changed_file_is_named_as_the_cause(built, project):
    replace(project, "test_4/u0.wav")
    project.build()
    compared = ask(project, "compare.py", built.work / "results", "results")
    (change,) = compared["changes"]
    assert (change["kind"], change["where"], list(change["items"])) == ("audio", "test", ["test_4/u0.wav"])
    before, after = read_table(built), read_table(project)
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    names = ("ablation", "calibration", "target", "split")
    expected = {tuple(row[name] for name in names) for row in changed}
    found = {tuple(cell["cell"][name] for name in names) for cell in compared["cells"]}
    assert found <= expected and {key[3] for key in found} == {"test"}
    assert found >= set(
        product(("base", "fused"), ("none", "mu_sigma"), ("valence", "arousal", "dominance"), ("test",))
    )
    assert all(cell["causes"] == [0] for cell in compared["cells"])


@pytest.mark.long
def test_a_commit_is_recorded_and_is_no_reason_to_run(project):
    def commit(message):
        git = ["git", "-C", project.checkout, "-c", "user.name=Name", "-c", "user.email=name@example.org"]
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", message], check=True)
        return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()

    def recorded():
        return json.loads((project.work / "results/provenance.json").read_text())["git"]

    assert recorded() is None
    subprocess.run(["git", "-C", project.checkout, "init", "--quiet"], check=True)
    (project.checkout / ".gitignore").write_text("__pycache__/\n")
    subprocess.run(["git", "-C", project.checkout, "add", "."], check=True)
    first = commit("first")
    project.expect_plan(set())
    (project.work / "results/provenance.json").unlink()
    project.expect({"record_provenance", "write_model_cards"})
    assert recorded() == {"commit": first, "dirty": False}
    commit("second")
    project.expect_plan(set())
    (project.checkout / "rules/corpus.smk").write_text((project.checkout / "rules/corpus.smk").read_text() + "\n")
    (project.work / "results/provenance.json").unlink()
    project.expect({"record_provenance", "write_model_cards"})
    assert recorded()["dirty"] and recorded()["commit"] != first
