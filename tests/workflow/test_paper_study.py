"""The paper's tables as a study: its plan on a made corpus in MSP-Podcast's form, with the paper's speakers."""

import csv
import itertools
import json
import math
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from project import PLUGINS, REPOSITORY, run_snakemake

pytestmark = pytest.mark.long

STUDY = REPOSITORY / "studies" / "tran2023.yaml"
COUNTS = {"train": 987, "validation": 41, "test-b": 50, "test-c": 63}  # speakers
MSP_COLUMNS = ["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"]

sys.path.insert(0, str(STUDY.parent))
from tran2023_speakers import LISTS, list_speakers  # noqa: E402


def make_release(folder: Path, training: int = COUNTS["train"]) -> Path:
    """A release's sheet, with two utterances of each speaker of the paper, of `Unknown`, and of one more."""
    named = [speaker for speakers in LISTS.values() for speaker in speakers.split()]
    others = [str(number) for number in range(2000, 2000 + training)]
    rows = [(speaker, "Train") for speaker in [*others, "135", "Unknown"]] + [(speaker, "Test1") for speaker in named]
    rows = [row for row in rows if row != ("135", "Test1")] + [("1999", "Test2")]
    (folder / "Audios").mkdir(parents=True)
    (folder / "Labels").mkdir()
    with open(folder / "Labels" / "labels_consensus.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(MSP_COLUMNS)
        for number, (speaker, split) in enumerate(rows * 2):
            name, labels = f"MSP-PODCAST_{number}.wav", (1 + number % 7, 1 + number % 5, 4)
            (folder / "Audios" / name).write_text(f"no audio, but that of {number}")
            writer.writerow([name, "N", *labels, speaker, "Male", split])
    return folder / "Labels" / "labels_consensus.csv"


def make_small_release(folder: Path) -> Path:
    """The demo's recordings in MSP-Podcast's form: its test speakers by turns in the paper's test-b and test-c."""
    with open(REPOSITORY / "demo" / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    turns = itertools.cycle(("test-b", "test-c"))
    names, numbers = {}, {split: iter(LISTS[split].split()) for split in LISTS} | {"train": iter(range(2000, 3000))}
    for speaker, split in sorted({(row["speaker"], row["split"]) for row in rows}):
        own = next(turns) if split == "test" else split
        names[speaker] = next(numbers[own]), {"train": "Train", "validation": "Development"}.get(own, "Test1")
    (folder / "Labels").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "demo" / "audio", folder / "Audios")
    with open(folder / "Labels" / "labels_consensus.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(MSP_COLUMNS)
        for row in rows:
            labels = (row["arousal"], row["valence"], row["dominance"])
            number, split = names[row["speaker"]]
            writer.writerow([row["file"], "N", *labels, number, "Male", split])
    return folder / "Labels" / "labels_consensus.csv"


def shrink(study: dict) -> dict:
    """The study with the demo's encoder, one seed and few epochs; rows, splits and calibrations are the paper's."""
    base = str(REPOSITORY / "demo" / "encoder")
    study["corpus"]["shards"] = 1
    study["encoders"] = {name: own | {"base": base, "threads": 1} for name, own in study["encoders"].items()}
    study["pseudo_labels"] = {"layer-9": {"features": "layer", "encoder": "base", "layer": 4, "clusters": 30}}
    study["pretraining"] = {"epochs": 1, "batch_seconds": 20, "code_width": 64, "threads": 1}
    study["finetuning"] = {
        **{"epochs": 2, "crop_seconds": 1.2, "learning_rate": 0.0002, "head_learning_rate": 0.001, "batch_size": 16},
        "threads": 1,
    }
    study["calibration"]["k"] = [1, 3, 5]
    return study | {"seeds": [0], "training": {"epochs": 5}}


def write_speakers(sheet: Path, path: Path) -> list[tuple[str, str]]:
    speakers = list_speakers(sheet)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("speaker", "split"), *speakers])
    return speakers


def plan(folder: Path, study: dict) -> Counter[str]:
    """How many jobs of each rule a study plans."""
    (folder / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    jobs = folder / "jobs.jsonl"
    jobs.write_text("")
    command = ["--snakefile", REPOSITORY / "Snakefile", "--directory", folder, "--cores", 1]
    command += ["--logger", "jobs", "--dry-run", "results/ablation_table.csv"]
    environment = {"PYTHONPATH": PLUGINS} | os.environ | {"JOBS_FILE": str(jobs)}
    done = run_snakemake(list(map(str, command)), folder, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return Counter(json.loads(line)["rule"] for line in jobs.read_text().splitlines())


def test_the_plan_has_the_papers_rows_and_speakers(tmp_path):
    speakers = write_speakers(make_release(tmp_path / "msp-podcast"), tmp_path / "speakers.csv")
    assert Counter(split for _, split in speakers) == COUNTS and ("135", "validation") in speakers
    study = yaml.safe_load(STUDY.read_text())
    study["corpus"]["shards"] = 1
    jobs = plan(tmp_path, study)
    assert jobs["finetune_ablation"] == 3 * sum("finetune" in row for row in study["ablations"]) == 18
    assert jobs["adapt_encoder"] == 4 and jobs["score"] == 1
    for split, count in COUNTS.items():
        with open(tmp_path / "results" / "manifests" / split / "shard-000.csv", newline="") as file:
            assert len({row["speaker_id"] for row in csv.DictReader(file)}) == count
    # With vectors that are tuned, each seed's encoder places the speakers of every split by its own.
    own = plan(tmp_path, study | {"finetuning": {"vectors": "tuned"}})
    assert (own["finetune_ablation"], own["finetune_ablation_with_vectors"]) == (9, 9)
    assert own["place_speakers"] - jobs["place_speakers"] >= 9 * len(COUNTS) - 3 * len(COUNTS)


@pytest.mark.slow
def test_a_small_one_runs_whole(tmp_path):
    """Every row and calibration of both tables, for both test sets, on speech that the demo's encoder knows."""
    write_speakers(make_small_release(tmp_path / "msp-podcast"), tmp_path / "speakers.csv")
    study = shrink(yaml.safe_load(STUDY.read_text()))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    command = ["--snakefile", REPOSITORY / "Snakefile", "--directory", tmp_path, "--cores", 2]
    done = run_snakemake([*map(str, command), "results/ablation_table.csv"], tmp_path, dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "results" / "ablation_table.csv", newline="") as file:
        table = list(csv.DictReader(file))
    methods = ["none", *(method["name"] for method in study["calibration"]["methods"])]
    keys = {(row["ablation"], row["calibration"], row["target"], row["split"]) for row in table}
    names = [row["name"] for row in study["ablations"]]
    targets, splits = study["corpus"]["targets"], study["corpus"]["test_splits"]
    assert keys >= {(a, m, t, s) for a in names for m in methods for t in targets for s in splits}
    for row in table:
        assert math.isfinite(float(row["o_ccc"])) and math.isfinite(float(row["a_ccc"]))
        assert row["n_speakers"] == ("8" if row["split"] == "validation" else "6")
        # TAPT and PAPT have heard speakers of a test split, weighting and PAPT's vectors need all audio of a speaker.
        if row["ablation"].startswith(("papt", "tapt", "b2")):
            assert row["protocol"] == "transductive", row
        elif row["calibration"] == "none" and row["ablation"] in names:
            assert row["protocol"] == "inductive", row
