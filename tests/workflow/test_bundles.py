"""A bundle scores elsewhere as the study does here, and is made anew for another model or calibration alone."""

import csv

import numpy as np
import pytest
from changes import replace
from made_corpus import TARGETS, read_sheet

from ser.formats.parquet import read_parquet
from ser_score import Scorer
from ser_score.audio import load

pytestmark = pytest.mark.long

BUNDLES = {
    "plain": {"ablation": "base", "calibration": "mu_sigma"},
    "framed": {"ablation": "fused", "calibration": "mfcc"},
}
FILES = [f"results/bundles/{name}.zip" for name in BUNDLES]
CLOSE = 1e-3 * 6  # of the label range


@pytest.fixture(scope="module")
def bundled(built, tmp_path_factory):
    project = built.copy(tmp_path_factory.mktemp("bundled") / "project")
    with project.configure() as config:
        config["bundles"] = BUNDLES
    project.expect_plan(set())  # of the study itself
    assert project.build(*FILES) == {"make_bundle"}
    assert project.plan(*FILES) == set()
    return project


def list_test_speakers(project):
    """The files of each test speaker, by utterance."""
    speakers = {}
    for row in read_sheet(project.corpus):
        if row["split"] == "test":
            speakers.setdefault(row["speaker"], {})[row["file"]] = project.corpus / "audio" / row["file"]
    return speakers


def read_calibrated(project, ablation, calibration):
    rows = read_parquet(project.work / f"results/calibrated/{ablation}/seed-1/test.parquet").to_pylist()
    return {row["utterance_id"]: [row[t] for t in TARGETS] for row in rows if row["calibration"] == calibration}


@pytest.mark.parametrize("name", BUNDLES)
def test_scores_are_the_studys(bundled, name):
    """Of speakers whom the bundle does not know; two seeds and more are compared in unit tests."""
    settings, scorer = BUNDLES[name], Scorer(bundled.work / f"results/bundles/{name}.zip")
    expected = read_calibrated(bundled, settings["ablation"], settings["calibration"])
    raw = read_calibrated(bundled, settings["ablation"], "none")
    for files in list_test_speakers(bundled).values():
        found = scorer.score_speaker(files)
        assert found.rejected == {} and found.enough
        for file, score in found.scores.items():
            np.testing.assert_allclose(score.values, expected[file], atol=CLOSE)
            np.testing.assert_allclose(score.raw, raw[file], atol=CLOSE)


def test_neighbours_are_known_to_those_who_have_the_corpus(bundled):
    with open(bundled.work / "results/bundles/plain.speakers.csv", newline="") as file:
        names = {row["reference"]: row["speaker"] for row in csv.DictReader(file)}
    assert sorted(names.values()) == [f"train {number}" for number in range(6)]
    scorer = Scorer(bundled.work / "results/bundles/plain.zip")
    found = scorer.score_speaker(list_test_speakers(bundled)["test 0"])
    assert all(set(score.neighbours) <= set(names) for score in found.scores.values())


@pytest.mark.parametrize("method", ["enrol", "labels"])
def test_one_utterance_at_a_time_gives_what_the_enrolment_protocol_gives(bundled, method):
    scorer = Scorer(bundled.work / "results/bundles/plain.zip")
    expected = read_calibrated(bundled, "base", f"{method}/00")
    labels = {row["file"]: [float(row[target]) for target in TARGETS] for row in read_sheet(bundled.corpus)}
    count = {"enrol": 2, "labels": 1}[method]
    for speaker, files in list_test_speakers(bundled).items():
        left = {file: load(path, scorer.bundle.limits) for file, path in files.items()}
        for file in rank_enrolled(files)[:count]:
            scorer.enrol(speaker, left.pop(file), labels=labels[file] if method == "labels" else None)
        scored = {file: samples for file, samples in left.items() if file in expected}
        assert scored
        for file, samples in scored.items():
            score = scorer.score(samples, speaker=speaker)
            assert score.calibration == method
            # The spread of two utterances may be small, and rounding is stretched by what it is divided into.
            np.testing.assert_allclose(score.values, expected[file], atol=CLOSE, rtol=5e-3)


def rank_enrolled(files):
    """In the order in which draw 0 enrols, by the formula in the documents."""
    from made_results import enrolment_order

    return enrolment_order(list(files), 0)


def test_a_changed_test_file_makes_no_bundle_anew(bundled, tmp_path):
    project = bundled.copy(tmp_path / "project")
    replace(project, "test_0/u0.wav")
    assert project.plan(*FILES) == set()
    replace(project, "train_0/u0.wav")
    assert "make_bundle" in project.plan(*FILES)


def test_made_again_it_is_the_same(bundled, tmp_path):
    project = bundled.copy(tmp_path / "project")
    assert project.build("--forcerun", "make_bundle", "--", FILES[0]) == {"make_bundle"}
    assert (project.work / FILES[0]).read_bytes() == (bundled.work / FILES[0]).read_bytes()
