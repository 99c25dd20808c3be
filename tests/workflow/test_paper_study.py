"""The paper's tables as a study: its plan on a made corpus in MSP-Podcast's form, with the paper's speakers."""

import csv
import json
import os
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


def plan(folder: Path, study: dict) -> Counter[str]:
    """How many jobs of each rule a study plans."""
    (folder / "config.yaml").write_text(yaml.safe_dump(study))
    jobs = folder / "jobs.jsonl"
    jobs.write_text("")
    command = ["--snakefile", REPOSITORY / "Snakefile", "--directory", folder, "--cores", 1]
    command += ["--logger", "jobs", "--dry-run", "results/ablation_table.csv"]
    environment = {"PYTHONPATH": PLUGINS} | os.environ | {"JOBS_FILE": str(jobs)}
    done = run_snakemake(list(map(str, command)), folder, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return Counter(json.loads(line)["rule"] for line in jobs.read_text().splitlines())


def test_the_plan_has_the_papers_rows_and_speakers(tmp_path):
    sheet = make_release(tmp_path / "msp-podcast")
    speakers = list_speakers(sheet)
    assert Counter(split for _, split in speakers) == COUNTS and ("135", "validation") in speakers
    with open(tmp_path / "speakers.csv", "w", newline="") as file:
        csv.writer(file).writerows([("speaker", "split"), *speakers])
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
