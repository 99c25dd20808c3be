"""A small corpus made of noise, for tests of the workflow: quick to make, and its labels can be heard."""

import csv
from pathlib import Path

import numpy as np
import soundfile
import yaml

TARGETS = ("valence", "arousal", "dominance")
_SCHEMA = Path(__file__).parents[1] / "rules" / "config.schema.yaml"
# The section `corpus` of a config that says nothing of it.
DEFAULTS = {
    key: part["default"]
    for key, part in yaml.safe_load(_SCHEMA.read_text())["properties"]["corpus"]["properties"].items()
    if "default" in part
}
SPEAKERS = {"train": 8, "validation": 3, "test": 3}


def write_utterance(path: Path, labels: tuple[float, ...], voice: float, seed: int, seconds: float = 0.6) -> None:
    """Noise through a resonance: arousal sets its level, valence its pitch, `voice` (0 to 1) the resonance."""
    rng = np.random.default_rng(seed)
    rate = 16_000
    time = np.arange(int(rate * seconds)) / rate
    valence, arousal, _ = labels
    tone = np.sign(np.sin(2 * np.pi * (80 + 30 * valence + 60 * voice) * time))
    noise = np.convolve(rng.standard_normal(time.size), np.sin(np.arange(32) * (0.2 + voice)), "same") / 8
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (tone + noise) * 0.02 * 1.5**arousal / 4, rate, subtype="PCM_16")


def make_corpus(folder: Path, utterances: int = 4, speakers: dict[str, int] | None = None) -> None:
    """Write `labels.csv` and `audio/` of a corpus with `utterances` a speaker."""
    rng = np.random.default_rng(0)
    rows = []
    for split, count in (speakers or SPEAKERS).items():
        for number in range(count):
            speaker, voice = f"{split} {number}", float(rng.uniform())
            for utterance in range(utterances):
                labels = tuple(np.round(rng.uniform(1, 7, 3), 2).tolist())
                file = f"{split}_{number}/u{utterance}.wav"
                write_utterance(folder / "audio" / file, labels, voice, seed=len(rows))
                rows.append(
                    {"file": file, "speaker": speaker, "split": split} | dict(zip(TARGETS, labels, strict=True))
                )
    write_sheet(folder, rows)


def read_sheet(folder: Path) -> list[dict]:
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_sheet(folder: Path, rows: list[dict]) -> None:
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
