"""Make the demo corpus: synthetic speech by eSpeak NG with planted valence, arousal and dominance.

Nothing here was said, felt or rated by anyone. 44 voices are drawn around six families; the labels are drawn first
and then acted out by the synthesiser (rate, pitch, loudness, tone, emphasis, voice quality), so that a model has
something to learn and a speaker's nearest neighbours know something about how that speaker's labels are distributed.

Needs the program `espeak-ng` (1.51 made the committed files) and the Python packages numpy, soundfile and soxr.
The workflow itself needs none of this: it reads `audio/` and `labels.csv`.
"""

import argparse
import csv
import io
import random
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import soundfile
import soxr

SEED = 20230418
SAMPLE_RATE = 16_000  # Hz
SHORTEST, LONGEST = 2.04, 2.5  # seconds: the same for all, so that length tells nothing about the labels
N_UTTERANCES = 12
N_FAMILIES = 6
SPLITS = {"train": 24, "validation": 8, "test": 12}  # speakers
TARGETS = ("valence", "arousal", "dominance")

# Every voice is a point on a ring: `angle` fixes its family, and with it the vocal tract, pitch, tone and breath of
# the baseline voice, and the mean and spread of its labels. The means go round twice as fast as the voice, so that a
# linear model cannot read a speaker's mean off the voice, while the voices nearby have much the same mean.
FAMILY_JITTER = 0.10  # radians, standard deviation
MEAN_DEPTH = {"valence": 0.85, "arousal": 1.0, "dominance": 0.85}  # amplitude of the speakers' means around 4
MEAN_PHASE = {"valence": 1.6, "arousal": 0.3, "dominance": 2.7}
SPREAD_RANGE = (0.5, 1.4)  # standard deviations of a speaker's labels
SPREAD_PHASE = {"valence": 2.6, "arousal": 0.5, "dominance": 1.4}
# What is acted out is the label relative to the speaker's own mean and spread, a little of its absolute value, noise.
ABSOLUTE_SHARE = 0.15
CUE_NOISE = {"valence": 0.35, "arousal": 0.25, "dominance": 0.35}

# How far each utterance strays from the speaker's baseline voice (another room, another day). It averages out over a
# speaker's utterances, but blurs who is speaking in any single one.
WANDER = {"tract": 0.15, "tone": 0.2}  # standard deviations, on the ring's radius of 1

SNR_DB = 24.5  # of the requantised signal; decides the corpus's size

ACCENTS = ("gmw/en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")
SENTENCES = """
The kettle is on the table by the window
We left the blue bag under the stairs
The train to the coast leaves at seven
There is a letter for you in the hall
My brother painted the garden gate green
The baker closes early on a Thursday
Nine small boats are tied to the old pier
Put the heavy box behind the kitchen door
The river is higher than it was last week
She found her keys in the other coat
The meeting was moved to the upper floor
He takes two sugars and a little milk
Our neighbour keeps bees on the flat roof
The lights along the bridge came on again
I have read the second page of the report
They will bring the chairs back tomorrow
The cat has slept on the piano all day
A yellow bus is waiting at the corner
The paper said it would rain by noon
Somebody left the ladder against the wall
The new clock in the office runs slow
We could walk home along the canal
The apples on that tree are nearly ripe
The phone rang twice and then it stopped
The museum opens at ten and the shop at eleven
The children have carried every stone down to the water
You can see the lighthouse from the top of the second hill
There were only three people left on the platform by then
The tall man in the grey jacket asked about the early boat
I put the spare batteries in the drawer beside the radio
They built the wooden bridge again after the winter storm
Her sister is going to teach at the school near the market
The plumber said he would come on Monday or on Tuesday
We need more paper, some glue and a good pair of scissors
The old road goes round the lake and then up into the forest
It is the third time this month that the lift has been broken
The milk is in the fridge
The door was open again
He sold his car in May
The soup needs more salt
I will call you from the station
Turn left after the second lamp
""".strip().splitlines()


@dataclass
class Speaker:
    """One voice and its label distribution."""

    name: str
    split: str
    accent: str
    tract: float  # place on the ring, -1 long and low to 1 short and high
    tone: float  # place on the ring, -1 dark, breathy and soft to 1 bright and loud
    formant_shape: list[float]  # factors on formants 1 to 5, the speaker's alone; so are the four that follow
    pitch_shift: float  # octaves
    pitch_range: float  # top of the pitch range divided by its base
    level: float  # dB
    rate: float  # words a minute
    mean: dict[str, float]
    spread: dict[str, float]


def draw_speaker(name: str, split: str, family: int, rng: random.Random) -> Speaker:
    angle = 2 * np.pi * family / N_FAMILIES + rng.gauss(0, FAMILY_JITTER)
    low, high = SPREAD_RANGE
    return Speaker(
        name=name,
        split=split,
        accent=rng.choice(ACCENTS),
        tract=np.cos(angle),
        tone=np.sin(angle),
        formant_shape=[np.exp(rng.gauss(0, 0.015)) for _ in range(5)],
        pitch_shift=rng.gauss(0, 0.08),
        pitch_range=1.45 * np.exp(rng.gauss(0, 0.05)),
        level=rng.gauss(0, 0.7),
        rate=158 * np.exp(rng.gauss(0, 0.04)),
        mean={t: 4 + MEAN_DEPTH[t] * np.cos(2 * angle + MEAN_PHASE[t]) for t in TARGETS},
        spread={t: low + (high - low) * (1 + np.cos(angle + SPREAD_PHASE[t])) / 2 for t in TARGETS},
    )


def draw_speakers(splits: dict[str, int], rng: random.Random) -> list[Speaker]:
    """Speakers of every split, the families dealt out in turn, under names that tell neither family nor split."""
    places = [(split, i % N_FAMILIES) for split, n in splits.items() for i in range(n)]
    rng.shuffle(places)
    return [draw_speaker(f"spk{i:02d}", split, family, rng) for i, (split, family) in enumerate(places, 1)]


def draw_labels(speaker: Speaker, n: int, rng: random.Random) -> list[dict[str, float]]:
    """Labels of one speaker: normal quantiles in random order, mildly correlated, then the speaker's mean and spread.

    Quantiles and not plain draws: with a dozen utterances, the drawn mean would miss the planted one by a third of a
    standard deviation.
    """
    quantiles = [NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)]
    z = np.array([rng.sample(quantiles, n) for _ in TARGETS])
    valence, arousal, dominance = range(3)
    z[dominance] = 0.4 * z[arousal] + 0.9 * z[dominance]
    z[valence] = 0.15 * z[dominance] + z[valence]
    z = (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, keepdims=True)
    return [
        {
            t: round(float(np.clip(speaker.mean[t] + speaker.spread[t] * z[j, i], 1, 7)), 2)
            for j, t in enumerate(TARGETS)
        }
        for i in range(n)
    ]


def draw_cues(speaker: Speaker, labels: dict[str, float], rng: random.Random) -> dict[str, float]:
    """How strongly each label is acted out: about standard normal, mostly relative to the speaker's own labels."""
    return {
        t: (1 - ABSOLUTE_SHARE) * (labels[t] - speaker.mean[t]) / speaker.spread[t]
        + ABSOLUTE_SHARE * (labels[t] - 4)
        + rng.gauss(0, CUE_NOISE[t])
        for t in TARGETS
    }


def brightness(speaker: Speaker, cues: dict[str, float]) -> float:
    """Tone of one utterance, about -2 dark and muffled to 2 bright and sharp."""
    return 0.75 * speaker.tone + 0.65 * cues["arousal"] + 0.2 * cues["dominance"]


def stray(speaker: Speaker, rng: random.Random) -> Speaker:
    """The speaker as on the day of one utterance: the baseline voice, moved a little on the ring."""
    moves = {axis: getattr(speaker, axis) + rng.gauss(0, sd) for axis, sd in WANDER.items()}
    return replace(speaker, **moves)


def describe_voice(speaker: Speaker, cues: dict[str, float]) -> str:
    """The eSpeak NG voice variant for one utterance (format: docs/voices.md of eSpeak NG)."""
    valence, arousal, dominance = (cues[t] for t in TARGETS)
    octaves = 0.6 * speaker.tract - 0.15 * speaker.tone + speaker.pitch_shift
    base = 125 * 2 ** (octaves + 0.18 * arousal - 0.10 * dominance + 0.10 * valence)  # Hz
    top = base * speaker.pitch_range ** np.exp(0.30 * arousal + 0.15 * valence)
    # A smile shortens the vocal tract, most of all for the second and third formants.
    scales = [1.02 * np.exp(0.16 * speaker.tract) * shape for shape in speaker.formant_shape]
    smile = [0.03, 0.08, 0.06, 0.03, 0.03]
    formants = [100 * scale * np.exp(weight * valence) for scale, weight in zip(scales, smile, strict=True)]  # percent
    bright = brightness(speaker, cues)
    tone = [600, 200, 1300, 130 * np.exp(0.35 * bright), 2400, 90 * np.exp(0.75 * bright)]
    tone = [int(np.clip(v, 10, 255)) if i % 2 else v for i, v in enumerate(tone)]
    breath = np.clip(0.35 - 0.35 * speaker.tone - 0.12 * dominance - 0.15 * valence, 0, 1)
    stress = np.clip(18 + 3 * np.array([-1, -1, 0, 0, 1, 1.5, 2, 2]) * (1 + 0.5 * dominance + 0.2 * arousal), 6, 30)
    lines = [
        "language variant",
        f"name {speaker.name}",
        "gender male",  # a label only: it changes nothing in the sound
        f"pitch {base:.0f} {top:.0f}",
        f"formant 0 100 {np.clip(100 + 35 * dominance, 20, 200):.0f} 100",
        *(f"formant {i} {percent:.0f} 100 100" for i, percent in enumerate(formants, 1)),
        "tone " + " ".join(map(str, tone)),
        "breath 0 " + " ".join(f"{breath * v:.0f}" for v in (14, 18, 18, 14, 10, 6, 6)),
        f"voicing {100 - 30 * breath:.0f}",
        f"roughness {np.clip(2 - 1.3 * valence, 0, 7):.0f}",
        f"flutter {np.clip(4 - 3 * valence + 2 * arousal, 0, 20):.0f}",
        "stressAmp " + " ".join(f"{v:.0f}" for v in stress),
    ]
    return "\n".join(lines) + "\n"


def prepare_espeak(folder: Path) -> None:
    """A copy of eSpeak NG's English data in `folder`, to which voices of our own can be added."""
    try:
        version = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise SystemExit("make_corpus.py needs the program espeak-ng (Debian: apt install espeak-ng)") from None
    data = Path(re.search(r"Data at: (.+)", version).group(1).strip())
    for name in ("lang", "voices"):
        shutil.copytree(data / name, folder / "espeak-ng-data" / name)
    for name in ("phondata", "phonindex", "phontab", "intonations", "en_dict"):
        shutil.copy(data / name, folder / "espeak-ng-data" / name)


def speak(folder: Path, voice: str, accent: str, rate: float, sentence: str) -> np.ndarray:
    """One sentence as float samples at 16 kHz, peak below 1, without the silence before and after."""
    (folder / "espeak-ng-data/voices/!v/demo").write_text(voice)
    options = f"-v {accent}+demo -s {rate:.0f} -a 60 -z --stdout".split()
    command = ["espeak-ng", f"--path={folder}", *options, sentence + "."]
    wav = subprocess.run(command, capture_output=True, check=True).stdout
    samples, rate_in = soundfile.read(io.BytesIO(wav), dtype="float64")
    samples = soxr.resample(samples, rate_in, SAMPLE_RATE, quality="HQ")
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    margin = SAMPLE_RATE // 50
    return samples[max(loud[0] - margin, 0) : loud[-1] + margin]


def tilt(samples: np.ndarray, bright: float) -> np.ndarray:
    """Samples through a first-order filter that weakens high frequencies where `bright` is negative, else low ones."""
    weight = 0.8 * np.tanh(0.6 * bright)
    return samples - weight * np.concatenate([[0.0], samples[:-1]])


def set_level(samples: np.ndarray, level_db: float) -> np.ndarray:
    """Samples as 16-bit integers at a level (RMS, dBFS), with the low bits cleared that FLAC then need not store."""
    samples = samples * 10 ** (level_db / 20) / np.sqrt(np.mean(samples**2))
    samples *= min(1, 0.95 / np.abs(samples).max())  # never clip
    rms = 32768 * np.sqrt(np.mean(samples**2))
    # Uniform quantisation has the noise power step^2 / 12.
    step = 2 ** max(0, round(np.log2(rms * np.sqrt(12) * 10 ** (-SNR_DB / 20))))
    return (np.round(samples * 32768 / step) * step).astype(np.int16)


def make_corpus(folder: Path, n_training: int, n_utterances: int) -> None:
    """Writes `audio/*.flac` and `labels.csv` into `folder`; audio files of an earlier run are replaced."""
    rng = random.Random(SEED)
    speakers = draw_speakers(SPLITS | {"train": n_training}, rng)
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    # Made aside and moved in at the end: whoever reads the corpus meanwhile finds the earlier one whole.
    with tempfile.TemporaryDirectory(dir=folder) as aside, tempfile.TemporaryDirectory() as name:
        audio, sheet, espeak = Path(aside, "audio"), Path(aside, "labels.csv"), Path(name)
        audio.mkdir()
        prepare_espeak(espeak)
        for speaker in speakers:
            queue = rng.sample(SENTENCES, len(SENTENCES))
            for number, labels in enumerate(draw_labels(speaker, n_utterances, rng), 1):
                cues = draw_cues(speaker, labels, rng)
                today = stray(speaker, rng)
                voice = describe_voice(today, cues)
                rate = np.clip(speaker.rate * np.exp(0.15 * cues["arousal"] - 0.04 * cues["dominance"]), 90, 260)
                for sentence in queue:
                    samples = speak(espeak, voice, speaker.accent, rate, sentence)
                    if SHORTEST <= len(samples) / SAMPLE_RATE <= LONGEST:
                        break
                else:
                    raise SystemExit(f"{speaker.name}: no sentence is {SHORTEST} to {LONGEST} s long at {rate:.0f} wpm")
                queue.remove(sentence)
                queue.append(sentence)  # said again only where no other has the right length
                samples = tilt(samples, brightness(today, cues))
                level = -26 + 2.5 * today.tone + today.level + 2.6 * cues["arousal"] + 1.3 * cues["dominance"]
                file = f"{speaker.name}_{number:02d}.flac"
                soundfile.write(
                    audio / file, set_level(samples, level), SAMPLE_RATE, subtype="PCM_16", compression_level=1.0
                )
                rows.append(
                    {"file": file, "speaker": speaker.name, "split": speaker.split}
                    | {t: f"{labels[t]:.2f}" for t in TARGETS}
                )
            print(f"\r{speaker.name} of {len(speakers)}", end="", flush=True)
        print()
        with open(sheet, "w", newline="") as file:
            writer = csv.DictWriter(file, ["file", "speaker", "split", *TARGETS], lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: row["file"]))
        shutil.rmtree(folder / "audio", ignore_errors=True)
        audio.rename(folder / "audio")
        sheet.replace(folder / "labels.csv")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder for audio/ and labels.csv (default: demo/)"
    )
    parser.add_argument("--training-speakers", type=int, default=SPLITS["train"], help="default: %(default)s")
    parser.add_argument("--utterances", type=int, default=N_UTTERANCES, help="of each speaker (default: %(default)s)")
    options = parser.parse_args()
    make_corpus(options.output, options.training_speakers, options.utterances)
