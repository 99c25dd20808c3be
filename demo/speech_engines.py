"""What voices say, and how each engine says it."""

import functools
import io
import os
import random
import re
from pathlib import Path

import numpy as np
from speech_sound import SAMPLE_RATE, cut, read, read_all, run, trim
from speech_voices import NO_SPEECH, SHARE, SUFFIXES, Voice, parse_pairs

WORD_LISTS = parse_pairs(
    "en=american-english de=ngerman fr=french es=spanish it=italian nl=dutch sv=swedish pl=polish pt=portuguese "
    "pt-br=brazilian da=danish nb=bokmål ca=catalan eo=esperanto bg=bulgarian uk=ukrainian fo=faroese "
    "gl=galician-minimos"
)


@functools.cache
def read_words(language: str) -> list[str]:
    lines = (SHARE / "dict" / WORD_LISTS[language]).read_text(encoding="utf-8", errors="ignore").split()
    return [word for word in lines if word.isalpha() and word.islower() and 1 < len(word) < 12]


def draw_word(text: str, rng: random.Random) -> str:
    """A word of the list `text`, or made up of syllables; short words more often, as in running speech."""
    if (SHARE / "dict" / WORD_LISTS.get(text, "-")).exists():
        return min(rng.choice(read_words(text)), rng.choice(read_words(text)), key=len)
    n = rng.choice((1, 2, 2, 3, 4))
    if "0x" in text:
        vowels = ["", "ा", "ि", "ी", "ु", "ू", "े", "ो"]
        syllables = "".join(rng.choice("कचटतनपमयरलवस") + rng.choice(vowels) for _ in range(n))
        return "".join(chr(ord(letter) - 0x900 + int(text.split(":")[-1], 16)) for letter in syllables)
    parts = ("p t k b d g m n l r s v h f j z st tr kl", "a e i o u a e i o au ei", ". . . n s r l t")
    return "".join(rng.choice(part.split()) for _ in range(n) for part in parts).replace(".", "")


def draw_text(text: str, n_words: int, rng: random.Random) -> list[str]:
    """Phrases with their punctuation."""
    phrases = []
    while n_words > 0:
        phrase = [draw_word(text, rng) for _ in range(min(n_words, rng.randint(1, 6)))]
        n_words -= len(phrase)
        phrases.append(" ".join(phrase) + rng.choice(",,;..?!"))
    return [*phrases[:-1], phrases[-1][:-1] + rng.choice("..?!")]


def say_recordings(voice: Voice, rng: random.Random, folder: Path):
    """Utterances of one part of a person's recordings: short ones joined with pauses, long ones cut."""
    files = sorted(f for f in Path(voice.person).rglob("*") if f.suffix in SUFFIXES and not NO_SPEECH.search(str(f)))
    random.Random(voice.person).shuffle(files)
    number, parts = voice.part
    pieces = []
    for samples in read_all(files[number::parts]):
        if len(samples) and np.sqrt(np.mean(samples**2)) > 1e-3:
            pieces += [piece for piece in cut(trim(samples), 10.0) if len(piece) > 0.2 * SAMPLE_RATE]
    joined, wanted = [], rng.uniform(2.5, 10.0)
    for piece in pieces:
        level = 0.1 * np.exp(rng.gauss(0, 0.25)) / np.sqrt(np.mean(piece**2))  # recorded at different levels
        if joined and (sum(map(len, joined)) + len(piece)) / SAMPLE_RATE > 10.5:
            yield np.concatenate(joined)
            joined = []
        joined += [level * piece, np.zeros(int(rng.uniform(0.03, 0.5) * SAMPLE_RATE), "float32")]
        if sum(map(len, joined)) / SAMPLE_RATE > wanted:
            yield np.concatenate(joined)
            joined, wanted = [], rng.uniform(2.5, 10.0)
    if joined:
        yield np.concatenate(joined)


def say_espeak(voice: Voice, rng: random.Random, folder: Path):
    """Utterances by eSpeak NG, with a voice variant of our own and SSML prosody by phrase."""
    high, steps = rng.uniform(-1, 1), [rng.gauss(0, 1) for _ in range(12)]
    breath, klatt = max(0.0, rng.gauss(0, 0.5)), rng.choice(["", "", "", "klatt 1", "klatt 2", "klatt 3", "klatt 4"])
    tract = 1 + 0.13 * high + 0.03 * steps[0]
    # One file per process, as eSpeak NG cannot have more than 350 voices and variants.
    variant, file = f"own{os.getpid()}", folder / "espeak-ng-data/voices/!v"
    while True:
        arousal = rng.gauss(0, 1)
        base = 125 * 2 ** (0.5 * high + 0.2 * steps[1] + 0.25 * arousal)
        lines = [
            f"language variant\nname {variant}\ngender male",
            f"pitch {base:.0f} {base * 1.45 ** np.exp(0.2 * steps[2] + rng.gauss(0, 0.5)):.0f}",
            *(f"formant {i} {100 * tract * np.exp(0.03 * steps[2 + i]):.0f} 100 100" for i in range(1, 6)),
            f"tone 600 {np.clip(200 + 20 * steps[8], 90, 255):.0f} 1300 {np.clip(130 + 50 * arousal, 20, 255):.0f} "
            f"2400 {np.clip(90 + 60 * arousal + 20 * steps[9], 10, 255):.0f}",
            "breath 0 " + " ".join(f"{breath * v:.0f}" for v in (14, 18, 18, 14, 10, 6, 6)),
            f"voicing {np.clip(100 - 25 * breath, 30, 100):.0f}",
            f"roughness {np.clip(2 + 2 * steps[10] + rng.gauss(0, 1), 0, 7):.0f}",
            f"flutter {np.clip(5 + 3 * steps[11] + rng.gauss(0, 4), 0, 25):.0f}",
            klatt,
        ]
        (file / variant).write_text("\n".join(lines) + "\n")
        rate = np.clip(160 * np.exp(rng.gauss(0, 0.12) + 0.15 * arousal), 80, 330)
        text = draw_text(voice.text, max(2, int(rng.uniform(2, 10) * rate / 75)), rng)
        ssml = "".join(
            f'<prosody rate="{100 * np.exp(rng.gauss(0, 0.15)):.0f}%" pitch="{rng.gauss(0, 12):+.0f}%" '
            f'range="{100 * np.exp(rng.gauss(0, 0.35)):.0f}%">{phrase}</prosody> '
            for phrase in text
        )
        options = f"-v {voice.person}+{variant} -s {rate:.0f} -a 60 -z -m --stdout".split()
        yield read(io.BytesIO(run("espeak-ng", f"--path={folder}", *options, f"<speak>{ssml}</speak>")))


def say_festival(voice: Voice, rng: random.Random, folder: Path):
    """Utterances by Festival, all in one process, which takes a while to start."""
    files = [folder / f"{rng.getrandbits(48):x}.wav" for _ in range(int(voice.seconds / 4) + 5)]
    script = [f"(voice_{voice.person})"]
    for file in files:
        text = " ".join(draw_text(voice.text, rng.randint(4, 22), rng))
        if "0x" not in voice.text:
            text = re.sub(r"[^a-z ,;.?!]", "", text)  # the old voices know no other letters
        script += [
            f"(Parameter.set 'Duration_Stretch {np.exp(rng.gauss(-0.05, 0.2)):.2f})",
            f'(utt.save.wave (utt.synth (Utterance Text "{text}")) "{file}")',
        ]
    run("festival", "--pipe", sound="\n".join(script).encode())
    for file in filter(Path.exists, files):
        yield read(file)
        file.unlink()


def say_flite(voice: Voice, rng: random.Random, folder: Path):
    """Utterances by Flite, at another pitch each where the voice allows it."""
    mean = 190 if voice.person == "slt" else 115  # Hz
    while True:
        settings = {
            "duration_stretch": np.exp(rng.gauss(0, 0.2)),
            "int_f0_target_mean": mean * np.exp(rng.gauss(0, 0.2)),
            "int_f0_target_stddev": 15 * np.exp(rng.gauss(0.3, 0.5)),
        }
        text = " ".join(draw_text(voice.text, rng.randint(4, 22), rng))
        file = folder / f"{rng.getrandbits(48):x}.wav"
        options = [option for key, value in settings.items() for option in ("--setf", f"{key}={value:.2f}")]
        run("flite", "-voice", voice.person, "-t", text, "-o", str(file), *options)
        yield read(file)
        file.unlink()


SAY = {"recordings": say_recordings, "festival": say_festival, "flite": say_flite, "espeak": say_espeak}
