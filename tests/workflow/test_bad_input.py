"""Bad audio, odd names and bad sheets, through the real workflow: each is set aside or refused, with its reason.

More kinds, one by one: tests/unit/test_audio.py, test_corpus.py, test_encoder_config.py, test_config.py.
"""

import ast
import csv
import io
import os
import re
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made_corpus import DEFAULTS, make_corpus, read_sheet, write_sheet

from ser.corpus import index
from ser.files import DataError, read_json

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"
LABELS = {"valence": 2, "arousal": 3, "dominance": 4}


def speech(seconds=0.6, rate=16_000, channels=1, seed=0):
    wave = np.random.default_rng(seed).normal(0, 0.1, (int(seconds * rate), channels))
    return wave if channels > 1 else wave[:, 0]


def encode(wave, rate=16_000, kind="WAV", subtype="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


def with_sample(value):
    wave = speech()
    wave[99] = value
    return encode(wave, subtype="FLOAT")


WAV, FLAC = encode(speech()), encode(speech(), kind="FLAC")


def another(seed, **options):
    """A file that is like no other one here: a recording is of one speaker."""
    return encode(speech(seed=seed), **options)


# content, and the reason why it is set aside; None where it is fine
AUDIO = {
    "0 bytes.wav": (b"", "empty file"),
    "one byte.wav": (b"R", "cannot be decoded"),
    "text.wav": (b"file,speaker\n" * 99, "cannot be decoded"),
    "html.wav": (b"<!DOCTYPE html><title>404</title>", "cannot be decoded"),
    "pickle.wav": (b"cos\nsystem\n(S'touch ran'\ntR.", "cannot be decoded"),
    "header only.wav": (WAV[:44], "no audio after the header"),
    "half a header.wav": (WAV[:20], "cannot be decoded"),
    "truncated.wav": (WAV[: len(WAV) // 2], "truncated"),
    "truncated.flac": (FLAC[: len(FLAC) // 2], "cannot be decoded|truncated"),
    "damaged.flac": (FLAC[:2000] + bytes(2000) + FLAC[4000:], "cannot be decoded|truncated"),
    "no rate.wav": (WAV[:24] + struct.pack("<I", 0) + WAV[28:], "cannot be decoded"),
    "no channels.wav": (WAV[:22] + struct.pack("<H", 0) + WAV[24:], "cannot be decoded"),
    "60000 channels.wav": (WAV[:22] + struct.pack("<H", 60_000) + WAV[24:], "cannot be decoded"),
    "20 ms.wav": (encode(speech(0.02)), "too short: 0.020 s"),
    "2 hours.wav": (encode(np.zeros(7_200_000), 1_000, subtype="PCM_U8"), "too long: 7200.000 s"),
    "zeros.wav": (encode(np.zeros(9_600)), "silent"),
    "NaN.wav": (with_sample(np.nan), "not finite"),
    "inf.wav": (with_sample(np.inf), "not finite"),
    "1e30.wav": (with_sample(1e30), "not finite, or larger than any audio"),
    "a FLAC.wav": (FLAC, None),
    "no extension": (another(1), None),
    "8 kHz.wav": (encode(speech(rate=8_000), 8_000), None),
    "192 kHz.wav": (encode(speech(rate=192_000), 192_000), None),
    "8 bits.wav": (encode(speech(), subtype="PCM_U8"), None),
    "24 bits.wav": (encode(speech(), subtype="PCM_24"), None),
    "over 1.wav": (encode(speech() * 50, subtype="FLOAT"), None),
    "6 channels.wav": (encode(speech(channels=6)), None),
    "Twin.wav": (another(2), None),
    "twin.wav": (another(2, kind="FLAC"), None),
    "😀 ä, 'q\" {shard} %s $HOME *.wav": (another(3), None),
    "-rf.wav": (another(4), None),
    "back\\slash.wav": (another(5), None),
    "n" * 250 + ".wav": (another(6), None),
}
SPEAKERS = [
    "../../evil",
    "/etc/passwd",
    "..",
    "😀",
    "Anna",
    "anna",
    "s" * 300,
    "a,b \"c\" 'd'",
    "$(touch ran)",
    "{split}",
]


@pytest.fixture
def swept(project):
    """The project with all of it in the test split, as utterances of speakers with odd names."""
    rows = read_sheet(project.corpus)
    folder = project.corpus / "audio" / "bad"
    folder.mkdir()
    for number, (name, (content, _)) in enumerate(AUDIO.items()):
        (folder / name).write_bytes(content)
        rows.append({"file": f"bad/{name}", "speaker": SPEAKERS[number % len(SPEAKERS)], "split": "test"} | LABELS)
    (folder / "a folder.wav").mkdir()
    os.mkfifo(folder / "a pipe.wav")
    (folder / "a device.wav").symlink_to("/dev/zero")
    (folder / "secret.wav").write_bytes(another(7))
    (folder / "secret.wav").chmod(0)
    for name in ("a folder.wav", "a pipe.wav", "a device.wav", "secret.wav"):
        rows.append({"file": f"bad/{name}", "speaker": "test 0", "split": "test"} | LABELS)
    write_sheet(project.corpus, rows)
    with project.configure() as config:
        config["ablations"] = config["ablations"][:1]
        config["corpus"]["speakers_differ"] = ["anna"]  # from Anna
    return project


def check_stop(stopped, project):
    """More than a twentieth was set aside: nothing is embedded, and the console says how to go on."""
    assert stopped.returncode
    ran = {job.split()[0] for job in project.reasons}
    assert {"measure_audio", "describe_corpus", "check_audio"} <= ran and not any("embed" in job for job in ran)
    for text in ("more was set aside than the config allows", "test: bad/0 bytes.wav: empty file", "to 0.", "Mend"):
        assert text in stopped.stdout + stopped.stderr
    assert (project.work / "results/metadata/rejected.csv").is_file()


def test_bad_audio_is_set_aside_and_odd_names_stay_names(swept, built):
    before = {
        path for path in swept.folder.rglob("*") if "results" not in path.parts and ".snakemake" not in path.parts
    }
    tables = ("results/metadata/rejected.csv", "results/predictions/base/seed-1/test.parquet")
    stopped = swept.run("results/ablation_table.csv", check=False)
    check_stop(stopped, swept)
    with swept.configure() as config:
        config["audio"] = {"max_rejected_share": 0.9}
    console = swept.run(*tables, "results/ablation_table.csv").stderr
    with open(swept.work / tables[0], newline="", encoding="utf-8") as file:
        rejected = {row["utterance_id"]: row["reason"] for row in csv.DictReader(file)}
    expected = {f"bad/{name}": reason for name, (_, reason) in AUDIO.items() if reason}
    expected |= {f"bad/{name}.wav": "cannot be read" for name in ("a folder", "a pipe", "a device")}
    if os.geteuid():  # root reads it all the same
        expected["bad/secret.wav"] = "cannot be read: permission denied"
    assert set(rejected) == set(expected)
    assert {name: why for name, why in rejected.items() if not re.search(expected[name], why)} == {}

    listed = {row["file"] for row in read_sheet(swept.corpus) if row["split"] == "test"}
    assert console.count("Set aside of split") == 1  # once, and of the only split with such files
    assert f"Set aside of split test: {len(rejected)} of {len(listed)} utterances (" in console
    split = read_json(swept.work / "results/protocol.json")["splits"]["test"]
    assert (split["utterances"], split["set_aside"]) == (len(listed) - len(rejected), len(rejected))
    with open(swept.work / "results/ablation_table.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["split"], row["calibration"]) == ("test", "none")]
        counts = {row["n_utterances"] for row in rows}
    assert counts == {str(split["utterances"])}
    assert set(pq.read_table(swept.work / tables[1])["utterance_id"].to_pylist()) == listed - set(rejected)
    speakers = {}
    for path in (swept.work / "results/speakers/test").iterdir():
        speakers |= read_json(path)
    assert set(SPEAKERS) <= set(speakers)

    after = {path for path in swept.folder.rglob("*") if "results" not in path.parts and ".snakemake" not in path.parts}
    assert {path for path in after - before if "__pycache__" not in path.parts} <= {swept.folder / "jobs.jsonl"}
    shards = {path.name for path in built.work.joinpath("results").rglob("*") if path.is_dir()}
    assert {path.name for path in swept.work.joinpath("results").rglob("*") if path.is_dir()} == shards
    train = "models/base/seed-1/model.keras"
    assert swept.artefacts()[train] == built.artefacts()[train]


HEAD = "file,speaker,split,valence,arousal,dominance\n"
TRAIN, VALIDATION = "train_0/u0.wav,a,train,1,2,3\n", "validation_0/u0.wav,b,validation,1,2,3\n"
GOOD = HEAD + TRAIN + VALIDATION
# a sheet, and what is said of it; None where it is fine
SHEETS = {
    "as it should be": (GOOD, None),
    "byte-order mark": ("\ufeff" + GOOD, None),
    "Windows line ends": (GOOD.replace("\n", "\r\n"), None),
    "semicolons": (GOOD.replace(",", ";"), None),
    "blank lines": (GOOD.replace("\n", "\n\n"), None),
    "old Macintosh line ends": (GOOD.replace("\n", "\r"), None),
    "tabs": (GOOD.replace(",", "\t"), None),
    "all in quotes": ('"' + GOOD.strip().replace(",", '","').replace("\n", '"\n"') + '"\n', None),
    "one-utterance speakers": (GOOD + "test_0/u0.wav,c,test,1,2,3\n", None),
    "UTF-16": (GOOD.encode("utf-16"), "is not UTF-8"),
    "Latin-1": (GOOD.replace(",a,", ",ä,").encode("latin-1"), "is not UTF-8"),
    "a spreadsheet": (b"PK\x03\x04\x14\x00\x06\x00", "labels.csv: "),
    "empty": ("", "is empty"),
    "a blank first line": ("\n" + GOOD, "is empty, or its first line is"),
    "a comment first": ("# by me\n" + GOOD, "column 'file' is missing; the header has '# by me'"),
    "JSON": ('[{"file": "a.wav"}]', "column 'file' is missing"),
    "a header alone": (HEAD, "no utterance of a known speaker is in split 'train'"),
    "no header": (TRAIN + VALIDATION, "column 'file' is missing"),
    "no validation": (HEAD + TRAIN, "is in split 'validation'; training needs both"),
    "all speakers unknown": (GOOD.replace(",a,", ",Unknown,"), "no utterance of a known speaker"),
    "a column twice": (GOOD.replace("arousal", "valence"), "column 'valence' is there more than once"),
    "a quote that is open": (GOOD + '"test_0/u0.wav,c,test,1,2,3\n', "row 4: cannot be read as CSV"),
    "a huge cell": (GOOD + "test_0/u0.wav," + "s" * 200_000 + ",test,1,2,3\n", "row 4: cannot be read as CSV"),
    "a row twice": (GOOD + TRAIN, "row 4: file 'train_0/u0.wav' is listed already in row 2"),
    "a short row": (GOOD + "test_0/u0.wav,c,test\n", "row 4: has 3 cells"),
    "decimal commas": (GOOD.replace(",", ";").replace(";1;", ";1,5;"), "valence '1,5' is not a number"),
    "NaN": (GOOD.replace(",1,", ",NaN,"), "valence 'NaN' is not a number"),
    "inf": (GOOD.replace(",1,", ",-inf,"), "valence '-inf' is not a number"),
    "no label in training": (GOOD.replace(",1,", ",,"), "row 2: valence '' is not a number"),
    "above the range": (GOOD.replace(",1,", ",7.0001,"), "row 2: valence '7.0001' is not a number from 1 to 7"),
    "huge": (GOOD.replace(",1,", ",1e999,"), "valence '1e999' is not a number"),
    "negative": (GOOD.replace(",1,", ",-1,"), "valence '-1' is not a number"),
    "a number in Python's spelling": (GOOD.replace(",1,", ",0_1,"), "valence '0_1' is not a number"),
    "a formula": (GOOD.replace(",1,", ",=1+1,"), "valence '=1\\+1' is not a number"),
    "a file that is not there": (GOOD + "no.wav,a,train,1,2,3\n", "row 4: .*no.wav is not on disk"),
    "a broken link": (GOOD + "broken.wav,a,train,1,2,3\n", "row 4: .*broken.wav is not on disk"),
    "links in a circle": (GOOD + "circle.wav,a,train,1,2,3\n", "row 4: .*circle.wav is not on disk"),
    "backslashes in a path": (GOOD + "test_0\\u0.wav,c,test,1,2,3\n", None),
    "300 characters": (GOOD + "x" * 300 + ",a,train,1,2,3\n", "row 4: .* is not on disk"),
    "a path out of the folder": (GOOD + "../labels.csv,a,train,1,2,3\n", "is not a path inside the audio folder"),
    "an absolute path": (GOOD + "/etc/passwd,a,train,1,2,3\n", "is not a path inside the audio folder"),
    "a newline in a name": (GOOD + '"a\nb.wav",a,train,1,2,3\n', "is not a path inside the audio folder"),
    "a zero byte in a name": (GOOD + "a\0b.wav,a,train,1,2,3\n", "is not a path inside|cannot be read as CSV"),
    "the same file by two names": (GOOD + "./train_0//u0.wav,a,train,1,2,3\n", "listed already in row 2"),
    "a speaker in two splits": (GOOD.replace(",b,", ",a,"), "a speaker belongs to one split"),
    "no speaker": (
        GOOD.replace(",a,", ", ,"),
        "1 utterances of speaker '' left out\n.* no utterance of a known speaker",
    ),
    "a split by another name": (GOOD.replace("train,1", "Train,1"), "split 'Train' is unknown"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheets")
    make_corpus(folder / "corpus", utterances=1, speakers={"train": 1, "validation": 1, "test": 1})
    (folder / "corpus/audio/broken.wav").symlink_to("nowhere.wav")
    (folder / "corpus/audio/circle.wav").symlink_to("circle.wav")
    return folder


@pytest.mark.parametrize(("sheet", "message"), SHEETS.values(), ids=SHEETS)
def test_sheets(corpus, monkeypatch, tmp_path, sheet, message):
    settings = DEFAULTS | {"folder": "corpus", "targets": list(LABELS), "shards": 2}
    monkeypatch.chdir(corpus)
    (corpus / "corpus/labels.csv").write_bytes(sheet if isinstance(sheet, bytes) else sheet.encode())
    if message is None:
        assert set(index.build(settings, {}).labels) >= {"train", "validation"}
    else:
        with pytest.raises(DataError, match=message):
            index.build(settings, {})


def test_no_code_comes_from_data():
    """No pickle, no evaluation, no unsafe YAML, no code of a model's own, anywhere in the workflow."""
    found = []
    for path in SCRIPTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names += [node.module] * any(alias.name != "UnpicklingError" for alias in node.names)
            found += [
                (path.name, name) for name in names if name.split(".")[0] in ("pickle", "joblib", "dill", "shelve")
            ]
            if isinstance(node, ast.Call):
                call, words = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
                unsafe = call in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system")
                unsafe |= call == "torch.load" and words.get("weights_only") != "True"
                unsafe |= call.endswith("load_model") and words.get("safe_mode", "True") != "True"
                unsafe |= any(words.get(key) == "True" for key in ("allow_pickle", "trust_remote_code", "shell"))
                found += [(path.name, call)] * unsafe
    assert found == []
