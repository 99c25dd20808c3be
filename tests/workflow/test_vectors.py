"""Speaker vectors of every kind in a study: what the plan says of them, and what runs."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_corpus import read_sheet, write_utterance
from project import Project


def write_vectors(project, *others, **changed):
    """A file with a vector of each speaker of the corpus, and of others."""
    speakers = sorted({row["speaker"] for row in read_sheet(project.corpus)} | {*others})
    vectors = [changed.get(speaker.replace(" ", "_"), [float(i), i * i % 7, 1.0]) for i, speaker in enumerate(speakers)]
    pq.write_table(pa.table({"speaker_id": speakers, "vector": vectors}), project.work / "other.parquet")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project of which nothing has run, with vectors of a file that a calibration method compares."""
    project = Project(tmp_path_factory.mktemp("vectors") / "project").make()
    write_vectors(project)
    with project.configure() as config:
        config["speaker_vectors"] = {"other": {"file": "other.parquet"}, "swapped": {"permute": "other"}}
        config["calibration"]["methods"].append({"name": "by_file", "similarity": "other"})
        config["ablations"].append({"name": "swapped", "encoder": "plain", "speaker": "swapped", "fusion": "sum"})
    return project


@pytest.fixture
def project(made, tmp_path):
    return made.copy(tmp_path / "project")


def refuse(project, *arguments):
    """What a plan says that does not come off."""
    done = project.run("--dry-run", *arguments, check=False)
    assert done.returncode
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("settings", "reads"),
    [
        ({"ablation": "base", "calibration": "mfcc"}, False),
        ({"ablation": "base", "calibration": "by_file"}, True),
        ({"ablation": "swapped", "calibration": "none"}, True),
    ],
)
def test_a_file_knows_the_speakers_of_recordings_that_are_scored_by_it(project, settings, reads):
    write_utterance(project.work / "guests" / "ann" / "a.wav", (2.0, 3.0, 4.0), voice=0.5, seed=9)
    with project.configure() as config:
        config["scored"] = {"guests": {"folder": "guests", **settings}}
    target = "results/scored/guests.csv"
    if reads:
        assert "has no vector of speaker guests/ann (1 of 14 are missing)" in refuse(project, target)
        write_vectors(project, "guests/ann")
    taken = {job for job in project.plan(target) if job.startswith("take_vectors") and "scored" in job}
    assert bool(taken) is reads


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"file": "corpus/labels.csv"}, "config: speaker_vectors.v.file: corpus/labels.csv: cannot be read as Parquet"),
        ({"features": "embeddings", "layer": 99}, "config: speaker_vectors.v: layer is 99, but encoder 'framed' has"),
        ({"model": "encoders/plain"}, "config: speaker_vectors.v.model: encoders/plain/config.json: model_type is"),
        (
            {"model": "encoders/plain", "revision": "main"},
            "config: speaker_vectors.v: model 'encoders/plain' is a local",
        ),
    ],
)
def test_a_plan_names_the_key_of_vectors_that_cannot_be_used(project, vectors, message):
    with project.configure() as config:
        config["speaker_vectors"]["v"] = vectors
    said = refuse(project)
    assert message in said and "delete" not in said
