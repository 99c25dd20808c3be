"""Make hours of free speech in many voices and languages, for pre-training the demo's encoder from scratch.

Two kinds of speech, both from Debian packages (bookworm's versions made the encoder's): recordings of people that
come with telephone exchanges, games, learning programs and synthesisers, cut or joined to utterances; and random
sentences read by synthesisers. A voice is a person or a synthesiser's voice at one vocal tract length; rate, pitch,
loudness and, for half of the utterances, room, band and noise change from one utterance to the next.

    apt install asterisk-core-sounds-{en,es,fr,it,ru}-g722 asterisk-prompt-it-menardi-wav festvox-ru hedgewars-data \\
        klettres-data ktuberling-data ffmpeg sox espeak-ng flite festival festlex-{cmu,poslex,ifd} \\
        festival-{hi,mr,te} festvox-{kallpc16k,kdlpc16k,us-slt-hts,italp16k,itapc16k,suopuhe-lj,suopuhe-mv} \\
        festvox-{ca-ona-hts,czech-dita,czech-krb,czech-machac,czech-ph,hi-nsk,mr-nsk,te-nsk} \\
        wamerican wngerman wfrench wspanish witalian wdutch wswedish wpolish wportuguese wbrazilian wdanish \\
        wnorwegian wcatalan wesperanto wbulgarian wukrainian wfaroese wgalician-minimos

Whatever is not installed is left out, with a notice, and the rest makes up for it. Also needs the Python packages
numpy, soundfile, soxr and tqdm. The labels in `labels.csv` are placeholders: 4, the middle of the scale, for all.
The same seed and packages give the same files.
"""

import argparse
import csv
import random
import re
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import soundfile
from speech_engines import SAY
from speech_sound import SAMPLE_RATE, colour, run, share_of_sound, stretch, trim
from speech_voices import SHARES, SPLITS, Voice, draw_voices, language_of
from tqdm import tqdm

SHORTEST, LONGEST = 2.0, 12.0  # seconds


def make_voice(voice: Voice, seed: int, audio: Path, folder: Path) -> tuple[Voice, list[tuple[str, float]]]:
    """Writes a voice's utterances; returns their files and seconds."""
    rng = random.Random(f"{seed} {voice.name}")
    noise = np.random.default_rng(rng.getrandbits(64))
    made = []
    for samples in SAY[voice.engine](voice, rng, folder):
        if voice.engine != "espeak":
            # What a person's voice does within its range: pitch a little, rate much.
            samples = stretch(samples, voice.tract * np.exp(rng.gauss(0, 0.03)), np.exp(rng.gauss(0, 0.14)))
        samples = trim(samples)[: int(LONGEST * SAMPLE_RATE)].astype("float64")
        if len(samples) < SHORTEST * SAMPLE_RATE or share_of_sound(samples) < 0.4:
            continue
        if rng.random() < 0.5:
            samples = colour(samples, noise)
        level = 10 ** (rng.uniform(-32, -12) / 20)
        samples *= min(level / samples.std(), 0.98 / np.abs(samples).max())
        file = f"{voice.name}/{voice.name}_{len(made):03d}.flac"
        (audio / voice.name).mkdir(exist_ok=True)
        soundfile.write(audio / file, samples, SAMPLE_RATE, subtype="PCM_16")
        made.append((file, len(samples) / SAMPLE_RATE))
        if sum(seconds for _, seconds in made) > voice.seconds:
            break
    return voice, made


def prepare_espeak(folder: Path) -> None:
    """A copy of eSpeak NG's data in `folder`, to which voices of our own can be added."""
    version = run("espeak-ng", "--version").decode()
    shutil.copytree(re.search(r"Data at: (.+)", version).group(1).strip(), folder / "espeak-ng-data")


def make_speech(folder: Path, hours: float, seed: int, jobs: int) -> None:
    """Writes `audio/` and `labels.csv` into `folder`, whole or not at all; those of an earlier run are replaced."""
    voices = draw_voices(hours, random.Random(seed))
    if not voices:
        raise SystemExit("nothing to speak with: install at least espeak-ng")
    folder.mkdir(parents=True, exist_ok=True)
    rows, seconds = [], Counter()
    with tempfile.TemporaryDirectory(dir=folder) as aside, tempfile.TemporaryDirectory() as scratch:
        audio, sheet = Path(aside, "audio"), Path(aside, "labels.csv")
        audio.mkdir()
        if shutil.which("espeak-ng"):
            prepare_espeak(Path(scratch))
        with ProcessPoolExecutor(jobs) as pool, tqdm(total=len(voices), unit="voice", dynamic_ncols=True) as bar:
            waiting = [pool.submit(make_voice, voice, seed, audio, Path(scratch)) for voice in voices]
            for done in as_completed(waiting):
                voice, made = done.result()
                for file, length in made:
                    rows.append([file, voice.name, voice.split, 4, 4, 4])
                    seconds[voice.name] += length
                bar.update()
        with open(sheet, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", "speaker", "split", "valence", "arousal", "dominance"])
            writer.writerows(sorted(rows))
        shutil.rmtree(folder / "audio", ignore_errors=True)
        audio.rename(folder / "audio")
        sheet.replace(folder / "labels.csv")
    print_table(voices, seconds)


def print_table(voices: list[Voice], seconds: Counter) -> None:
    groups = {engine: [v for v in voices if v.engine == engine] for engine in SHARES}
    groups |= {split: [v for v in voices if v.split == split] for split in ("train", *SPLITS)} | {"all": voices}
    print(f"{'engine':12} {'voices':>6} {'people':>6} {'languages':>9} {'hours':>6}")
    for name, group in groups.items():
        group = [v for v in group if seconds[v.name]]
        people, languages = {(v.engine, v.person) for v in group}, {language_of(v) for v in group}
        hours = sum(seconds[v.name] for v in group) / 3600
        print(f"{name:12} {len(group):6} {len(people):6} {len(languages):9} {hours:6.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for audio/ and labels.csv")
    parser.add_argument("--hours", type=float, default=6, help="of speech, about (default: 6)")
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    arguments = parser.parse_args()
    make_speech(arguments.out, arguments.hours, arguments.seed, arguments.jobs)
