"""Recordings of new speakers are scored by what the study trained, and are no part of the study."""

import csv
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_corpus import TARGETS, read_sheet, write_utterance
from safetensors.numpy import load_file
from test_adapted_encoders import PRETRAINING

from ser.files import read_json

SET = {"folder": "guests", "ablation": "base", "calibration": "mu_sigma"}
SCORES = "results/scored/guests.csv"
FEATURES = {"measure_audio scored.guests 000", "embed_shard plain scored.guests 000"}
BELOW = {"predict_recordings base scored.guests", "calibrate_recordings base scored.guests", "score_recordings"}


def add_set(project, **options):
    """The test speakers' audio as recordings of nobody whom the study knows, and one file that is no audio."""
    for row in read_sheet(project.corpus):
        if row["split"] == "test":
            folder = project.work / "guests" / row["speaker"]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project.corpus / "audio" / row["file"], folder)
    (project.work / "guests" / "test 0" / "notes.txt").write_text("no audio")
    change_set(project, **options)


def change_set(project, **options):
    with project.configure() as config:
        config["scored"] = {"guests": SET | options}


@pytest.fixture(scope="module")
def scored(built, tmp_path_factory):
    project = built.copy(tmp_path_factory.mktemp("scored") / "project")
    add_set(project)
    project.expect_plan(set())  # of the study itself
    assert project.plan(SCORES) == FEATURES | BELOW
    assert project.build(SCORES) == FEATURES | BELOW
    assert project.plan(SCORES) == set()
    project.expect_plan(set())
    return project


@pytest.fixture
def project(scored, tmp_path):
    return scored.copy(tmp_path / "project")


def read_csv(project, name):
    with open(project.work / "results" / "scored" / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_are_what_the_same_audio_has_as_a_test_split(scored):
    rows = read_csv(scored, "guests.csv")
    table = pq.read_table(scored.work / "results/calibrated/base/seed-1/test.parquet").to_pylist()
    expected = {
        (row["speaker_id"], row["utterance_id"].split("/")[1]): [row[target] for target in TARGETS]
        for row in table
        if row["calibration"] == "mu_sigma"
    }
    found = {(row["speaker"], row["file"].split("/")[1]): [float(row[t]) for t in TARGETS] for row in rows}
    assert found.keys() == expected.keys()
    for key, values in found.items():
        np.testing.assert_allclose(values, expected[key], atol=1e-5)  # float32 through the heads, 6 decimals
    assert read_csv(scored, "guests.rejected.csv") == [
        {
            "file": "test 0/notes.txt",
            "speaker": "test 0",
            "reason": "cannot be decoded: text, not audio",
        }
    ]
    speakers = {f"train {number}" for number in range(6)}
    assert all(set(row["neighbours"].split(";")) <= speakers for row in rows)


@pytest.mark.long
def test_another_recording_changes_this_set_alone(project):
    write_utterance(project.work / "guests" / "test 1" / "new.wav", (2.0, 3.0, 4.0), voice=0.5, seed=9)
    project.expect_plan(set())
    assert project.build(SCORES) == FEATURES | BELOW
    assert "test 1/new.wav" in {row["file"] for row in read_csv(project, "guests.csv")}


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        ({"coverage": 0.5}, {"score_recordings"}),
        ({"calibration": "none"}, {"score_recordings"}),
        (
            {"ablation": "fused", "calibration": "mfcc"},
            {job.replace("base", "fused") for job in BELOW} | {"embed_shard_with_frames framed scored.guests 000"},
        ),
    ],
)
def test_settings_of_a_set_train_nothing(project, options, jobs):
    change_set(project, **options)
    project.expect_plan(set())
    assert project.plan(SCORES) == jobs


def test_a_set_that_goes_leaves_nothing_behind(built, project):
    with project.configure() as config:
        del config["scored"]
    shutil.rmtree(project.work / "guests")
    project.expect_plan(set())
    project.run("prune")
    expected, found = built.artefacts(), project.artefacts()
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


def personalise(project):
    with project.configure() as config:
        config["encoders"]["papt"] = {"base": "encoders/plain", "threads": 1, "adaptation": "papt", "neighbours": 2}
        config["pretraining"] = PRETRAINING
        config["pseudo_labels"] = {"mfcc": {"clusters": 5, "frames": 600}}
        config["ablations"].append({"name": "personal", "encoder": "papt"})
    change_set(project, ablation="personal")


def test_a_personalised_encoder_never_hears_new_speakers(project):
    personalise(project)
    planned = project.plan(SCORES)
    assert {"place_speakers papt scored.guests 000", "embed_shard papt scored.guests 000"} <= planned
    assert not [job for job in planned if job.startswith("label_frames") and "scored" in job]


@pytest.mark.slow
def test_a_personalised_encoder_has_vectors_for_new_speakers(project):
    """The mean of two training speakers' vectors, even for one whom the corpus has another of the same name of."""
    personalise(project)
    shutil.copytree(project.work / "guests" / "test 1", project.work / "guests" / "train 0")
    project.build(SCORES)
    results = project.work / "results"
    placed = read_json(results / "speaker_embeddings/papt/scored.guests/shard-000.json")
    assert sorted(placed) == sorted(f"guests/{name}" for name in ["train 0", *(f"test {n}" for n in range(5))])
    head = load_file(results / "encoders/papt/adaptation.safetensors")["speaker_vectors"]
    pairs = [(head[i] + head[j]) / 2 for i in range(len(head)) for j in range(i)]
    for vector in placed.values():
        assert min(abs(pair - vector).max() for pair in pairs) < 1e-6  # float32
    assert placed["guests/train 0"] == placed["guests/test 1"]  # the same audio
    assert {row["speaker"] for row in read_csv(project, "guests.csv")} == {name.split("/")[1] for name in placed}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ablation": "bass"}, "config: scored.guests: ablation is 'bass', expected one of base, fused"),
        ({"calibration": "enrol"}, "calibration is 'enrol', expected one of none, mu_sigma, mfcc"),
        ({"folder": "nobody"}, "config: scored.guests.folder: 'nobody' is not a folder"),
        ({"folder": "guests/test 0"}, "'u0.wav' lies in no speaker's folder"),
    ],
)
def test_a_set_that_cannot_be_scored_is_refused(project, options, message):
    change_set(project, **options)
    done = project.run("--dry-run", SCORES, check=False)
    assert done.returncode and message in done.stdout + done.stderr
