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
import functools
import io
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

SAMPLE_RATE = 16_000  # Hz
SHORTEST, LONGEST = 2.0, 12.0  # seconds
# Of the hours wanted. The recordings may be fewer; eSpeak NG, which has no end of voices, fills up.
SHARES = {"recordings": 0.62, "festival": 0.08, "flite": 0.05, "espeak": 0.25}
SPLITS = {"validation": 0.05, "test": 0.01}  # of each engine's seconds, by person
PROGRAMS = {
    "recordings": ("sox", "ffmpeg"),
    "festival": ("sox", "festival"),
    "flite": ("sox", "flite"),
    "espeak": ("espeak-ng",),
}
VOICE_SECONDS = {"recordings": 180, "festival": 90, "flite": 90, "espeak": 45}
TRACT = (0.85, 1.18)  # factors by which a voice's formants (and pitch) are moved

SHARE = Path("/usr/share")
# Folders of recordings, each of one person as far as can be told, and the language (None: the folder's name).
RECORDINGS = {
    "asterisk/sounds/en_US_f_Allison": "en",
    "asterisk/sounds/es_MX_f_Allison": "es",
    "asterisk/sounds/fr_CA_f_June": "fr",
    "asterisk/sounds/it_IT_m_Carlo": "it",
    "asterisk/sounds/ru_RU_f_IvrvoiceRU": "ru",
    "asterisk/sounds/it_IT_f_Menardi": "it",  # the only one at 8 kHz
    "festival/voices/russian/msu_ru_nsh_clunits/wav": "ru",
    "klettres/*": None,
    "ktuberling/sounds/*": None,
    "games/hedgewars/Data/Sounds/voices/*": "various",
}
SUFFIXES = (".g722", ".wav", ".ogg")
NO_SPEECH = re.compile("/silence/|/beep|monkeys|/Robot/|@")  # and the same again under another spelling
# Who is only in the validation split, as far as there is room; otherwise only people of few words would be.
HELD_OUT = "/usr/share/asterisk/sounds/fr_CA_f_June"


def parse_pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


WORD_LISTS = parse_pairs(
    "en=american-english de=ngerman fr=french es=spanish it=italian nl=dutch sv=swedish pl=polish pt=portuguese "
    "pt-br=brazilian da=danish nb=bokmål ca=catalan eo=esperanto bg=bulgarian uk=ukrainian fo=faroese "
    "gl=galician-minimos"
)
# eSpeak NG's languages and what they read: a word list, or made-up words in Latin letters or in an Indic script, which
# Unicode lays out alike from a first code point.
ESPEAK = parse_pairs(
    "gmw/en=en gmw/en-US=en gmw/en-GB-scotland=en gmw/en-GB-x-rp=en gmw/en-029=en gmw/en-GB-x-gbclan=en "
    "gmw/en-GB-x-gbcwmd=en gmw/en-US-nyc=en gmw/de=de roa/fr=fr roa/fr-BE=fr roa/fr-CH=fr roa/es=es roa/es-419=es "
    "roa/it=it gmw/nl=nl gmq/sv=sv zlw/pl=pl roa/pt=pt roa/pt-BR=pt-br gmq/da=da gmq/nb=nb roa/ca=ca art/eo=eo "
    "zls/bg=bg zle/uk=uk gmq/is=fo roa/an=gl gmw/af=- trk/az=- zls/bs=- zlw/cs=- cel/cy=- urj/et=- eu=- urj/fi=- "
    "cel/ga=- cel/gd=- sai/gn=- map/haw=- zls/hr=- roa/ht=- urj/hu=- poz/id=- ira/ku=- itc/la=- gmw/lb=- bat/lt=- "
    "bat/lv=- poz/mi=- poz/ms=- sem/mt=- cus/om=- roa/pap=- qu=- roa/ro=- zlw/sk=- zls/sl=- ine/sq=- bnt/sw=- "
    "bnt/tn=- trk/tr=- aav/vi=- sit/cmn-Latn-pinyin=- inc/hi=0x900 inc/mr=0x900 inc/ne=0x900 inc/bn=0x980 inc/pa=0xA00 "
    "inc/gu=0xA80 inc/or=0xB00 dra/ta=0xB80 dra/te=0xC00 dra/kn=0xC80 dra/ml=0xD00"
)
FESTIVAL = parse_pairs(
    "kal_diphone=en ked_diphone=en cmu_us_slt_arctic_hts=en pc_diphone=it lp_diphone=it suo_fi_lj_diphone=fi "
    "hy_fi_mv_diphone=fi upc_ca_ona_hts=ca czech_dita=cs czech_krb=cs czech_machac=cs czech_ph=cs "
    "hindi_NSK_diphone=hi:0x900 marathi_NSK_diphone=mr:0x900 telugu_NSK_diphone=te:0xC00"
)
FLITE = parse_pairs("kal16=en awb=en rms=en slt=en")


@dataclass
class Voice:
    """One speaker of the corpus: a person or a synthesiser's voice, at one vocal tract length."""

    engine: str
    person: str
    text: str  # what it reads; of recordings, their language
    name: str
    seconds: float
    tract: float
    part: tuple[int, int] = (0, 1)  # recordings: this one of that many parts of the person's recordings
    split: str = "train"


def run(*command: str, sound: bytes | None = None) -> bytes:
    return subprocess.run(command, input=sound, capture_output=True, check=True).stdout


def read(file: Path | io.BytesIO) -> np.ndarray:
    """A sound file as mono samples at 16 kHz."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)


def read_all(files: list[Path]) -> list[np.ndarray]:
    """Sound files of one folder. Those of G.722 have no header, so that one process can decode them all."""
    if files and files[0].suffix == ".g722":
        data = [file.read_bytes() for file in files]
        wav = run("ffmpeg", "-v", "error", "-f", "g722", "-i", "-", "-f", "wav", "-", sound=b"".join(data))
        return np.split(read(io.BytesIO(wav)), np.cumsum([2 * len(d) for d in data])[:-1])  # 2 samples a byte
    return [read(file) for file in files]


def trim(samples: np.ndarray) -> np.ndarray:
    """Samples without the silence before and after."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=1e-4))
    margin = SAMPLE_RATE // 20
    return samples[max(loud[0] - margin, 0) : loud[-1] + margin] if len(loud) else samples[:0]


def share_of_sound(samples: np.ndarray) -> float:
    """How much of it is not silence: frames of 50 ms above -20 dB of the whole's RMS."""
    power = np.mean(samples[: len(samples) // 800 * 800].reshape(-1, 800) ** 2, axis=1)
    return float(np.mean(power > 0.01 * power.mean()))


def cut(samples: np.ndarray, longest: float) -> list[np.ndarray]:
    """Samples in pieces of at most `longest` seconds, cut where they are quietest."""
    most = int(longest * SAMPLE_RATE)
    if len(samples) <= most:
        return [samples]
    power = np.convolve(samples**2, np.ones(800) / 800, mode="same")
    place = most // 3 + int(np.argmin(power[most // 3 : most]))
    return [samples[:place], *cut(samples[place:], longest)]


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


def stretch(samples: np.ndarray, speed: float, tempo: float) -> np.ndarray:
    """Formants and pitch moved by the factor `speed`, and the rate by `tempo` and `speed` together."""
    raw = ["-t", "raw", "-e", "float", "-b", "32", "-r", str(SAMPLE_RATE), "-c", "1", "-"]
    effects = ["speed", f"{speed:.4f}", "rate", str(SAMPLE_RATE), "tempo", "-s", f"{tempo:.4f}"]
    sound = (0.5 * samples).astype("<f4").tobytes()  # headroom
    return np.frombuffer(run("sox", "-D", *raw, *raw, *effects, sound=sound), "<f4")


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


def colour(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another microphone, room and background, each at random."""
    n = len(samples)
    frequency = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    octave = np.log2(np.maximum(frequency, 60) / 60)
    gain = np.interp(octave, np.linspace(0, 7.1, 9), rng.normal(0, 4, 9))  # dB
    if rng.random() < 0.3:
        gain -= 24 * np.maximum(0, np.log2(np.maximum(frequency, 1) / rng.uniform(3000, 7000)))
    if rng.random() < 0.3:
        gain -= 18 * np.maximum(0, np.log2(rng.uniform(100, 350) / np.maximum(frequency, 10)))
    spectrum = np.fft.rfft(samples) * 10 ** (gain / 20)
    samples = np.fft.irfft(spectrum, n)
    if rng.random() < 0.5:
        decay = rng.uniform(0.08, 0.5)  # seconds to -60 dB
        t = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
        room = rng.normal(0, 1, len(t)) * 10 ** (-3 * t / decay)
        room *= rng.uniform(0.1, 0.7) / np.linalg.norm(room)
        room[0] = 1
        size = 1 << (n + len(t)).bit_length()
        samples = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(room, size), size)[:n]
    if rng.random() < 0.8:
        slope = rng.uniform(0, 1.2)  # white to brown
        noise = np.fft.irfft(np.fft.rfft(rng.normal(0, 1, n)) / np.maximum(frequency, 50) ** slope, n)
        snr = rng.uniform(15, 40)  # dB
        samples = samples + noise / noise.std() * samples.std() * 10 ** (-snr / 20)
    return samples


SAY = {"recordings": say_recordings, "festival": say_festival, "flite": say_flite, "espeak": say_espeak}


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


@functools.cache
def sum_seconds(folder: Path) -> float:
    """How long a folder's recordings are."""
    files = [file for file in folder.rglob("*") if file.suffix in SUFFIXES and not NO_SPEECH.search(str(file))]
    return sum(f.stat().st_size / 8000 if f.suffix == ".g722" else soundfile.info(f).duration for f in files)


def find_people() -> dict[str, dict[str, str]]:
    """Who can speak, by engine, with what they read (recordings: their language). Says what is not installed."""
    recordings = {
        str(folder): language or re.sub("[@_].*", "", folder.name)
        for pattern, language in RECORDINGS.items()
        for folder in sorted(SHARE.glob(pattern))
        if sum_seconds(folder) > 5
    }
    people = {"recordings": recordings, "festival": FESTIVAL, "flite": FLITE, "espeak": ESPEAK}
    for engine, programs in PROGRAMS.items():
        if missing := [program for program in programs if not shutil.which(program)]:
            print(f"{engine}: left out, for {' and '.join(missing)} is not installed")
            del people[engine]
    if "festival" in people:
        installed = run("festival", "-b", "(print (voice.list))").decode()
        people["festival"] = {person: text for person, text in FESTIVAL.items() if person in installed}
    for pattern in RECORDINGS:
        if not any(SHARE.glob(pattern)):
            print(f"recordings: nothing in {SHARE / pattern}")
    return {engine: who for engine, who in people.items() if who}


def draw_voices(hours: float, rng: random.Random) -> list[Voice]:
    """The voices of all engines, how long each is to speak, and their splits."""
    voices, left = [], 0.0
    people = find_people()
    for engine, share in SHARES.items():
        left += 3600 * hours * share
        mine = []
        for person, text in people.get(engine, {}).items():
            seconds = 0.75 * sum_seconds(Path(person)) if engine == "recordings" else np.inf  # without the silence
            n = int(min(np.ceil(seconds / VOICE_SECONDS[engine]), 1 + left / VOICE_SECONDS[engine]))
            mine += [(person, text, min(seconds / n, VOICE_SECONDS[engine]), (i, n)) for i in range(n)]
        mine.sort(key=lambda voice: (voice[3][0], rng.random()))  # everybody once, then everybody twice, ...
        low, high = np.log(TRACT)
        drawn = []
        for i, (person, text, seconds, part) in enumerate(mine):
            if left <= 0:
                break
            left -= seconds
            # Every other voice is at about its person's own tract length.
            tract = float(np.exp(rng.uniform(low, high) if i % 2 else rng.gauss(0, 0.02)))
            drawn.append(Voice(engine, person, text, f"{engine}{i:04d}", seconds, tract, part))
        voices += assign_splits(drawn, rng)
    return voices


def assign_splits(voices: list[Voice], rng: random.Random) -> list[Voice]:
    """Splits by person, so that nobody is in two; for eSpeak NG, whose people are languages, by voice."""
    people = defaultdict(list)
    for voice in voices:
        people[voice.name if voice.engine == "espeak" else voice.person].append(voice)
    room = {split: share * sum(voice.seconds for voice in voices) for split, share in SPLITS.items()}
    if held_out := people.pop(HELD_OUT, []):
        people[HELD_OUT] = held_out[: max(1, int(0.6 * room["validation"] / held_out[0].seconds))]
        for voice in people[HELD_OUT]:
            voice.split = "validation"
            room["validation"] -= voice.seconds
    for person in rng.sample(sorted(people.keys() - {HELD_OUT}), len(people.keys() - {HELD_OUT})):
        seconds = sum(voice.seconds for voice in people[person])
        for split in room:
            if seconds <= room[split]:
                room[split] -= seconds
                for voice in people[person]:
                    voice.split = split
                break
    return [voice for person in people.values() for voice in person]


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


def language_of(voice: Voice) -> str:
    name = voice.person if voice.engine == "espeak" else voice.text
    return re.split("[-:]", name.split("/")[-1])[0].lower()


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
