"""Who speaks: people and synthesisers' voices, how long each, and in which split."""

import functools
import random
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from speech_sound import run

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


def language_of(voice: Voice) -> str:
    name = voice.person if voice.engine == "espeak" else voice.text
    return re.split("[-:]", name.split("/")[-1])[0].lower()
