"""Sets of recordings: who speaks in which file, and what is written of them."""

import csv
import os
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from made_corpus import DEFAULTS, make_corpus, write_utterance

from ser.config.calibration_methods import Method
from ser.corpus import index
from ser.corpus.recordings import check_sets, read_recordings
from ser.evaluation.recording_scores import Files, Scores, Scoring, score_recordings
from ser.files import DataError, write_json
from ser.formats import manifest
from ser.formats.parquet import write_parquet
from ser.formats.utterances import Utterances

TARGETS = ["valence", "arousal"]


def touch(folder, *files):
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")


def read(folder, sheet=""):
    return [
        (row.utterance_id, row.path, row.speaker_id)
        for row in read_recordings("scored.guests", {"folder": str(folder), "sheet": sheet})
    ]


def test_each_folder_is_a_speaker(tmp_path):
    touch(tmp_path, "Zoë/b.wav", "anna, b/x/a.flac", "anna, b/c.wav", ".git/config", "Zoë/.DS_Store")
    assert read(tmp_path) == [
        ("Zoë/b.wav", f"{tmp_path}/Zoë/b.wav", "guests/Zoë"),
        ("anna, b/c.wav", f"{tmp_path}/anna, b/c.wav", "guests/anna, b"),
        ("anna, b/x/a.flac", f"{tmp_path}/anna, b/x/a.flac", "guests/anna, b"),
    ]


def test_links_are_followed_but_not_round_in_a_ring(tmp_path):
    touch(tmp_path, "elsewhere/a.wav", "guests/anna/b.wav")
    os.symlink("../elsewhere", tmp_path / "guests/zoë")
    os.symlink("../../guests", tmp_path / "guests/anna/ring")
    assert [row[::2] for row in read(tmp_path / "guests")] == [
        ("anna/b.wav", "guests/anna"),
        ("zoë/a.wav", "guests/zoë"),
    ]


def test_a_sheet_says_who_speaks(tmp_path):
    touch(tmp_path, "b.wav", "a/c.wav", "unlisted.wav")
    (tmp_path / "who.csv").write_text("speaker;file;note\nZoë;b.wav;x\nanna;./a/c.wav;\n")
    assert read(tmp_path, "who.csv") == [
        ("a/c.wav", f"{tmp_path}/a/c.wav", "guests/anna"),
        ("b.wav", f"{tmp_path}/b.wav", "guests/Zoë"),
    ]


@pytest.mark.parametrize(
    ("files", "sheet", "message"),
    [
        ([], "", r"config: scored.guests: there is no file in the folders of"),
        (["a.wav", "b/c.wav"], "", r"'a.wav' lies in no speaker's folder; expected .*/SPEAKER/a.wav, or a sheet"),
        (["b/c\n.wav"], "", r"the name 'b/c\\n.wav' has the character U\+000A, which is no part of a name"),
        (["a.wav"], "file,speaker\n../a.wav,s\n", r"who.csv, row 2: file '../a.wav' is not a path inside"),
        (["a.wav"], "file,speaker\na.wav,s\n./a.wav,t\n", r"who.csv, row 3: file './a.wav' is listed already"),
        (["a.wav"], "file,speaker\na.wav,\n", r"who.csv, row 2: speaker '' is not a speaker id"),
        (["a.wav"], "file,name\na.wav,s\n", r"who.csv: column 'speaker' is missing"),
        (["a.wav"], "file,speaker\n", r"config: scored.guests: there is no file"),
    ],
)
def test_files_without_a_speaker_are_refused(tmp_path, files, sheet, message):
    folder = tmp_path / "recordings"
    folder.mkdir()
    touch(folder, *files)
    if sheet:
        (folder / "who.csv").write_text(sheet)
    with pytest.raises(DataError, match=message):
        read(folder, "who.csv" if sheet else "")


def test_a_missing_folder_or_sheet_is_named(tmp_path):
    with pytest.raises(DataError, match=r"config: scored.guests.folder: '.*absent' is not a folder"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match=r"who.csv: there is no such label sheet; set scored.guests.folder and"):
        read(tmp_path, "who.csv")


METHODS = [Method("mu_sigma"), Method("enrol", enrolment=2), Method("chance", neighbours="random")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ablation": "bases"}, r"scored.guests: ablation is 'bases', expected one of base$"),
        ({"calibration": "enrol"}, r"scored.guests: calibration is 'enrol', expected one of none, mu_sigma$"),
        ({"calibration": "chance"}, r"expected one of none, mu_sigma$"),
    ],
)
def test_only_what_can_be_applied_is_accepted(options, message):
    settings = {"ablation": "base", "calibration": "mu_sigma"}
    assert check_sets({"guests": settings}, {"base": {}}, METHODS) == {"scored.guests": settings}
    with pytest.raises(DataError, match=message):
        check_sets({"guests": settings | options}, {"base": {}}, METHODS)


SETTINGS = DEFAULTS | {"folder": "corpus", "targets": ["valence"], "shards": 2}


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_corpus(tmp_path / "corpus", utterances=1, speakers={"train": 2, "validation": 1, "test": 1})
    for speaker in ("train 0", "new"):
        write_utterance(tmp_path / "guests" / speaker / "a.wav", (2.0, 3.0, 4.0), voice=0.5, seed=1)
    return {"scored.guests": {"folder": "guests", "sheet": "", "shards": 1}}


def test_a_set_is_indexed_beside_the_corpus(corpus):
    alone = index.build(SETTINGS, {})
    both = index.build(SETTINGS, {}, corpus)
    assert (both.shards, both.labels, both.test_splits) == (alone.shards, alone.labels, ["test"])
    rows = manifest.read(index.FOLDER / "scored.guests" / "shard-000.csv")
    assert [(row.path, row.speaker_id) for row in rows] == [
        ("guests/new/a.wav", "guests/new"),
        ("guests/train 0/a.wav", "guests/train 0"),  # not the corpus' speaker of this name
    ]
    assert both.recordings == {"scored.guests": {"000": both.recordings["scored.guests"]["000"]}}
    assert index.load() == both
    assert index.build(SETTINGS, {}) == alone
    index.settle(alone)
    assert not (index.FOLDER / "scored.guests").exists()


def test_a_broken_link_is_named(corpus):
    os.symlink("nowhere", "guests/new/b.wav")
    with pytest.raises(DataError, match="guests/new/b.wav is not on disk"):
        index.build(SETTINGS, {}, corpus)


NOTHING = {"alpha": None, "max_similarity": None}  # chosen beside k
# Predictions of two seeds that are off by a constant; calibration `mu` moves speakers to their neighbours' mean.
SPEAKERS = {"v/a": 3, "v/b": 2, "v/c": 1}
GUESTS = {"guests/one": 1, "guests/two": 3}


def write_calibrated(path, speakers, values, methods=("none", "mu")):
    rows = [(f"{speaker}{u}", speaker) for speaker, n in speakers.items() for u in range(n)]
    columns = {"utterance_id": [r[0] for r in rows] * len(methods), "speaker_id": [r[1] for r in rows] * len(methods)}
    columns["calibration"] = pa.array([m for m in methods for _ in rows]).dictionary_encode()
    for t, target in enumerate(TARGETS):
        columns[target] = pa.array(np.concatenate([values[m][:, t] for m in methods]), pa.float32())
    write_parquet(path, pa.table(columns))
    return str(path)


def score(**arguments):
    """`score_recordings` with all that it takes by name."""
    scoring, files = (
        kind(**{field.name: arguments[field.name] for field in fields(kind)}) for kind in (Scoring, Files)
    )
    score_recordings(scoring, files, {name: arguments[f"{name}_path"] for name in ("scores", "speakers", "rejected")})


@pytest.fixture
def study(tmp_path):
    """The arguments of `score`, with everything that it reads."""
    rng = np.random.default_rng(3)

    def draw(n):
        return {"none": rng.uniform(2, 6, (n, 2)), "mu": rng.uniform(2, 6, (n, 2))}

    files = {"values": [draw(4) for _ in (1, 2)], "known": [draw(6) for _ in (1, 2)]}
    truth = rng.uniform(1, 7, (6, 2))
    ids = [f"{speaker}{u}" for speaker, n in SPEAKERS.items() for u in range(n)]
    labels = {"utterance_id": ids, "speaker_id": [i[:-1] for i in ids], "valence": truth[:, 0], "arousal": truth[:, 1]}
    write_parquet(tmp_path / "validation.parquet", pa.table(labels))
    train = {"utterance_id": list("pqrs"), "speaker_id": ["t;1", "t;1", "t2", "t3"]}
    write_parquet(tmp_path / "train.parquet", pa.table(train | {target: [1.0, 2.0, 3.0, 4.0] for target in TARGETS}))
    choices = []
    for seed, ks in {1: (1, 2), 2: (2, 2)}.items():
        for target, k in zip(TARGETS, ks, strict=True):
            choices.append({"seed": seed, "calibration": "mu", "target": target, "k": k} | NOTHING)
    write_json(tmp_path / "choices.json", {"choices": choices})
    names, vectors = ["t2", "t3", "t;1"], [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]
    write_parquet(tmp_path / "train_vectors.parquet", pa.table({"speaker_id": names, "vector": vectors}))
    vectors = [[0.0, 1.0], [1.0, 0.2]]
    write_parquet(tmp_path / "vectors.parquet", pa.table({"speaker_id": list(GUESTS), "vector": vectors}))
    facts = [("guests/two9", "guests/two", "rejected", "silent"), ("guests/two0", "guests/two", "ok", "")]
    columns = dict(zip(("utterance_id", "speaker_id", "status", "reason"), zip(*facts, strict=True), strict=True))
    write_parquet(tmp_path / "facts.parquet", pa.table({name: list(values) for name, values in columns.items()}))
    calibrated, validation, predictions = [], [], []
    for seed in (0, 1):
        calibrated.append(write_calibrated(tmp_path / f"new-{seed}.parquet", GUESTS, files["values"][seed]))
        validation.append(write_calibrated(tmp_path / f"known-{seed}.parquet", SPEAKERS, files["known"][seed]))
        predictions.append(
            write_calibrated(tmp_path / f"plain-{seed}.parquet", GUESTS, files["values"][seed], ("none",))
        )
    evidence = {"enrolment": [], "encoder": [], "mfcc": []}
    arguments = {
        "name": "guests",
        "ablation": "base",
        "method": Method("mu", shift="mu"),
        "coverage": 0.5,
        "label_range": [1, 7],
        "min_utterances": 1,
        "min_reference_utterances": 1,
        "seeds": [1, 2],
        "targets": TARGETS,
        "train_labels": str(tmp_path / "train.parquet"),
        "validation_labels": str(tmp_path / "validation.parquet"),
        "choices": str(tmp_path / "choices.json"),
        "train": evidence | {"fused": [str(tmp_path / "train_vectors.parquet")] * 2},
        "split": evidence | {"fused": [str(tmp_path / "vectors.parquet")] * 2, "predictions": predictions},
        "calibrated": calibrated,
        "validation": validation,
        "facts": [str(tmp_path / "facts.parquet")],
        **{f"{name}_path": str(tmp_path / f"{name}.csv") for name in ("scores", "speakers", "rejected")},
    }
    return arguments, files, truth


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def average(seeds, speakers):
    """The mean of two seeds' values, a speaker's spread out to the mean of the seeds' standard deviations."""
    values, start = np.mean(seeds, axis=0), 0
    for n in speakers.values():
        own, part = [seed[start : start + n] for seed in seeds], values[start : start + n]
        if part.std() > 0:
            stretch = min(np.mean([seed.std() for seed in own]) / part.std(), np.sqrt(2))
            values[start : start + n] = part.mean() + stretch * (part - part.mean())
        start += n
    return values


def test_scores_are_means_over_seeds_with_an_interval_of_validation_errors(study):
    arguments, files, truth = study
    score(**arguments)
    rows = read_csv(arguments["scores_path"])
    assert [row["file"] for row in rows] == ["guests/one0", "guests/two0", "guests/two1", "guests/two2"]
    assert [row["speaker"] for row in rows] == ["one", "two", "two", "two"]
    # Whom one utterance is known of keeps the uncalibrated prediction.
    used = ["none", "mu", "mu", "mu"]
    assert [row["calibration"] for row in rows] == used
    assert [(row["n_utterances"], row["enough_utterances"]) for row in rows] == [("1", "no")] + [("3", "yes")] * 3
    for t, target in enumerate(TARGETS):
        means = {m: average([values[m][:, t] for values in files["values"]], GUESTS) for m in ("none", "mu")}
        errors_of = {m: average([values[m][:, t] for values in files["known"]], SPEAKERS) for m in ("none", "mu")}
        for u, row in enumerate(rows):
            seeds = [files["values"][seed][used[u]][u, t] for seed in (0, 1)]
            value = float(row[target])
            assert value == pytest.approx(means[used[u]][u], abs=2e-6)  # float32, 6 decimals
            assert float(row[f"{target}_seed_sd"]) == pytest.approx(abs(seeds[0] - seeds[1]) / np.sqrt(2), abs=1e-6)
            mean = errors_of[used[u]]
            errors = sorted(
                (abs(mean[i] - truth[i, t]), 1 / n)
                for i, n in enumerate([3, 3, 3, 2, 2, 1])
                if used[u] == "none" or n > 1
            )
            speakers = 3 if used[u] == "none" else 2
            share, width = 0.0, None
            for error, weight in errors:
                share += weight / (speakers + 1)
                if width is None and share >= 0.5 - 1e-9:
                    width = error
            interval = [float(row[f"{target}_{end}"]) for end in ("low", "high")]
            assert interval == pytest.approx(np.clip([value - width, value + width], 1, 7), abs=3e-6)


def test_scores_may_lie_outside_the_label_range_and_intervals_do_not():
    values = np.array([[7.6, 6.8], [0.4, 3.0]])
    scores = Scores(Utterances(TARGETS, pa.array(["a", "b"]), ["s"], np.zeros(2, int), values), None, np.full(2, 0.5))
    above, below = (scores.describe(row, [1, 7]) for row in (0, 1))
    named = [f"{target}{end}" for target in TARGETS for end in ("", "_low", "_high")]
    assert [above[name] for name in named] == pytest.approx([7.6, 7, 7, 6.8, 6.3, 7])
    assert [below[name] for name in named] == pytest.approx([0.4, 1, 1, 3.0, 2.5, 3.5])


def test_neighbours_are_the_nearest_training_speakers(study):
    arguments, _, _ = study
    score(**arguments)
    rows = read_csv(arguments["speakers_path"])
    assert [(r["speaker"], r["calibration"], r["target"], r["seed"], r["k"], r["neighbours"]) for r in rows] == [
        ("one", "none", "", "", "", ""),
        ("two", "mu", "valence", "1", "1", "t;1"),
        ("two", "mu", "arousal", "1", "2", "t;1;t3"),
        ("two", "mu", "valence", "2", "2", "t;1;t3"),
        ("two", "mu", "arousal", "2", "2", "t;1;t3"),
    ]
    cosine = 1.2 / np.sqrt(2 * 1.04)
    assert [float(x) for x in rows[2]["similarities"].split(";")] == pytest.approx([1 / np.sqrt(1.04), cosine])
    scores = read_csv(arguments["scores_path"])
    assert [(row["valence_k"], row["arousal_k"], row["neighbours"]) for row in scores[:2]] == [
        ("", "", ""),
        ("1;2", "2", "t;1;t3"),
    ]


def test_a_method_that_takes_all_training_speakers_names_none(study):
    arguments, _, _ = study
    score(**arguments | {"method": Method("mu", shift="mu", neighbours="all")})
    assert {r["neighbours"] for r in read_csv(arguments["scores_path"])} == {"", "all training speakers"}


def test_without_calibration_and_with_one_seed(study):
    arguments, files, _ = study
    one = {key: arguments[key][:1] for key in ("seeds", "calibrated", "validation")}
    score(**arguments | one | {"method": Method("none"), "coverage": 0.8})
    rows = read_csv(arguments["scores_path"])
    assert {row["calibration"] for row in rows} == {"none"} and {row["valence_seed_sd"] for row in rows} == {""}
    values = [float(row["valence"]) for row in rows]
    np.testing.assert_allclose(values, files["values"][0]["none"][:, 0], atol=1e-6)
    # Three validation speakers cannot promise 0.8: the interval is all that a label can be.
    assert {(float(row["valence_low"]), float(row["valence_high"])) for row in rows} == {(1.0, 7.0)}


def test_what_was_set_aside_has_its_reason(study):
    arguments, _, _ = study
    score(**arguments)
    assert read_csv(arguments["rejected_path"]) == [{"file": "guests/two9", "speaker": "two", "reason": "silent"}]


def test_a_set_of_which_all_was_set_aside(study, tmp_path):
    arguments, _, _ = study
    paths = [
        write_calibrated(tmp_path / f"empty-{seed}.parquet", {}, {"none": np.empty((0, 2)), "mu": np.empty((0, 2))})
        for seed in (0, 1)
    ]
    score(**arguments | {"calibrated": paths})
    assert read_csv(arguments["scores_path"]) == [] == read_csv(arguments["speakers_path"])
