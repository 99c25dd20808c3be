"""The committed demo corpus is what its README and the design say. Needs no eSpeak NG: only reads what is there."""

import csv
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean, pstdev

import numpy as np
import pytest
import soundfile

DEMO = Path(__file__).parents[2] / "demo"
TARGETS = ("valence", "arousal", "dominance")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with open(DEMO / "labels.csv", newline="") as sheet:
        return list(csv.DictReader(sheet))


def test_sheet_and_audio_name_the_same_files(rows):
    assert list(rows[0]) == ["file", "speaker", "split", *TARGETS]
    files = [row["file"] for row in rows]
    assert len(set(files)) == len(files)
    assert sorted(files) == sorted(path.name for path in (DEMO / "audio").iterdir())


def test_enough_speakers_in_every_split_and_none_in_two(rows):
    speakers = defaultdict(set)
    for row in rows:
        speakers[row["split"]].add(row["speaker"])
    assert {split: len(names) for split, names in speakers.items()} == {"train": 24, "validation": 8, "test": 12}
    assert len(set.union(*speakers.values())) == 44


def test_every_speaker_has_12_to_20_utterances(rows):
    counts = Counter(row["speaker"] for row in rows)
    assert all(12 <= n <= 20 for n in counts.values()), counts


def test_labels_are_within_1_and_7_with_two_decimals(rows):
    for row in rows:
        for target in TARGETS:
            assert 1 <= float(row[target]) <= 7
            assert len(row[target].partition(".")[2]) == 2


@pytest.mark.parametrize("target", TARGETS)
def test_speakers_differ_in_the_mean_and_spread_of_their_labels(rows, target):
    labels = defaultdict(list)
    for row in rows:
        labels[row["speaker"]].append(float(row[target]))
    # Planted: means 4 ± 0.85 to 1 (times the sine's 0.71), spreads from 0.5 to 1.4; the bounds leave room for clipping.
    assert 0.5 < pstdev(map(mean, labels.values())) < 0.85
    assert min(map(pstdev, labels.values())) < 0.65
    assert max(map(pstdev, labels.values())) > 1.2


def test_audio_is_16_khz_mono_flac_of_2_to_4_seconds(rows):
    for row in rows:
        info = soundfile.info(DEMO / "audio" / row["file"])
        assert (info.format, info.samplerate, info.channels) == ("FLAC", 16_000, 1), row["file"]
        assert 2 <= info.duration <= 4, row["file"]


def test_audio_is_neither_silent_nor_clipped(rows):
    for row in rows:
        samples, _ = soundfile.read(DEMO / "audio" / row["file"])
        assert 20 * np.log10(np.sqrt(np.mean(samples**2))) > -45, row["file"]
        assert np.abs(samples).max() < 0.99, row["file"]


@pytest.mark.parametrize("folder, most", [("audio", 8_000_000), ("encoder", 10_000_000)])
def test_the_demo_is_small(folder, most):
    assert sum(path.stat().st_size for path in (DEMO / folder).rglob("*") if path.is_file()) <= most


def test_readme_says_that_it_is_synthetic_and_no_accuracy_claim():
    start = (DEMO / "README.md").read_text(encoding="utf-8")[:600]
    assert "Synthetic speech with planted labels" in start
    assert "no claim about accuracy" in start
