"""Speaker vectors of every kind in a study: what the plan says of them, and what runs."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from changes import replace
from expected_jobs import TABLES, features, scores, training
from made_corpus import read_sheet, write_utterance
from project import Project
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

from ser.files import read_json

ROWS = ("base", "by_file", "by_model", "normalised")
VECTORS = {
    "other": {"file": "other.parquet"},
    "other_swapped": {"permute": "other"},
    "voice": {"model": "voice", "device": "cpu", "threads": 2},
    "voice_swapped": {"permute": "voice"},
}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SIZES |= {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
SIZES |= {"tdnn_dim": [8] * 3, "tdnn_kernel": [5, 3, 1], "tdnn_dilation": [1, 2, 1], "xvector_output_dim": 6}


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


@pytest.fixture(scope="module")
def study(made, tmp_path_factory):
    """A finished study with vectors of a file and of a model, their permutations, and a normalised row."""
    project = made.copy(tmp_path_factory.mktemp("study") / "project")
    torch.manual_seed(0)
    WavLMForXVector(WavLMConfig(**SIZES)).save_pretrained(project.work / "voice")
    Wav2Vec2FeatureExtractor().save_pretrained(project.work / "voice")
    with project.configure() as config:
        del config["encoders"]["framed"]
        config["speaker_vectors"] = VECTORS
        config["ablations"] = [
            {"name": "base"},
            {"name": "by_file", "speaker": "other", "fusion": "concat"},
            {"name": "by_model", "speaker": "voice", "fusion": "film"},
            {"name": "normalised", "normalise": "speaker_mean"},
        ]
        config["calibration"]["methods"] = [{"name": n, "similarity": n} for n in VECTORS if n.endswith("_swapped")]
        config["evaluation"]["shift_calibration"] = "voice_swapped"
    built = project.build()
    assert {
        f"{rule} {split} 000" for rule in ("measure_vectors", "take_vectors") for split in ("train", "test")
    } <= built
    assert {"prepare_speaker_model", "permute_vectors train", "permute_vectors test", *TABLES} <= built
    return project


def measured(split, shard):
    """Everything that is made of the audio of a shard, up to the vectors of its speakers."""
    jobs = {job for job in features(split, shard) if "framed" not in job}
    jobs |= {f"{rule}_vectors {split} {shard}" for rule in ("measure", "average", "take")}
    return jobs | {f"permute_vectors {split}"}


def read_voices(project, split, shard):
    return read_json(project.work / f"results/speakers/voice/{split}/shard-{shard}.json")


@pytest.mark.long
def test_a_test_file_remakes_its_speakers_vector_and_trains_nothing(study, tmp_path):
    project = study.copy(tmp_path / "project")
    project.expect_plan(set())
    before = read_voices(project, "test", "000")
    replace(project, "test_0/u0.wav")
    project.expect(measured("test", "000") | scores("test", *ROWS))
    after = read_voices(project, "test", "000")
    assert [speaker for speaker in before if before[speaker] != after[speaker]] == ["test 0"]
    log = (project.work / "results/logs/measure_vectors/voice/test/shard-000.log").read_text()
    assert "1 utterances to measure, 15 reused" in log


@pytest.mark.long
def test_a_training_file_trains_anew(study, tmp_path):
    project = study.copy(tmp_path / "project")
    replace(project, "train_0/u0.wav")
    project.expect_plan(measured("train", "000") | training(*ROWS))


@pytest.mark.long
def test_a_vector_of_a_test_speaker_in_a_file_trains_nothing(study, tmp_path):
    """Its own row and, by the permuted ones that all rows are calibrated with, the others' scores are made again."""
    project = study.copy(tmp_path / "project")
    write_vectors(project, test_4=[9.0, 8.0, 7.0])
    taken = {"take_vectors test 001", "permute_vectors test", "predict_split by_file test"}
    project.expect_plan(taken | {f"calibrate {row} test" for row in ROWS} | TABLES)


@pytest.mark.long
def test_prune_keeps_what_vectors_are_made_again_from(study, tmp_path):
    listed = study.copy(tmp_path / "project").run("--dry-run", "prune").stdout
    assert "results/" not in listed
