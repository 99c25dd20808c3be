"""After a change, what is planned is what runs, and both are what depends on the change: nothing less, nothing more.

What should run is written out here, independently of the rules. Every change is planned on a copy of the same finished
project, and some are carried out too; `pytest -m slow` carries out each and compares the result with a clean build.
"""

import hashlib
import shutil
from collections.abc import Callable
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from changes import (
    add_ablation,
    add_split,
    add_utterance,
    change_ablation,
    change_config,
    change_encoder,
    change_gender,
    change_label,
    change_top_level,
    edit,
    move_checkout,
    move_speaker,
    remove_ablation,
    remove_utterances,
    replace,
    rewrite_sheet,
    swap,
    touch,
)
from made_corpus import read_sheet, write_sheet

EMBED = {"plain": "embed_shard", "framed": "embed_shard_with_frames"}
SPLITS = ("train", "validation", "test")
SHARDS = ("000", "001")

SCORED = {"score", "score_groups", "record_provenance", "write_model_cards", "study_label_shift"}
TABLES = {"check_protocol", *SCORED}
MEASURED = {f"measure_audio {split} {shard}" for split in SPLITS for shard in SHARDS} | {"describe_corpus"}
PREPARED = {"prepare_encoder plain", "prepare_encoder framed"}
LABELS = {f"build_labels {split}" for split in SPLITS} | {"describe_corpus"}


def embedded(*encoders):
    """The embedding of the whole corpus."""
    jobs = {f"{EMBED[encoder]} {encoder} {split} {s}" for encoder in encoders for split in SPLITS for s in SHARDS}
    return jobs | {f"summarise_embeddings {encoder} {split}" for encoder in encoders for split in ("train", "test")}


def features(split, *shards):
    """Everything that is made of the audio of a split's shards."""
    jobs = {f"{EMBED[encoder]} {encoder} {split} {shard}" for encoder in EMBED for shard in shards}
    jobs |= {f"summarise_embeddings {encoder} {split}" for encoder in EMBED if split != "validation"}
    return jobs | {f"measure_audio {split} {shard}" for shard in shards} | {"describe_corpus"}


def labels(split):
    return {f"build_labels {split}", "describe_corpus"}


def scores(split, *ablations):
    """From new features of a test split to the tables."""
    jobs = {f"{rule} {ablation} {split}" for rule in ("predict_split", "calibrate") for ablation in ablations}
    return jobs | TABLES


def calibration(*ablations):
    """From choosing k to the tables."""
    chosen = {f"choose_calibration {ablation}" for ablation in ablations}
    return chosen | {f"calibrate {a} {split}" for a in ablations for split in ("validation", "test")} | TABLES


def training(*ablations):
    """From training to the tables."""
    return (
        {f"train_ablation {ablation}" for ablation in ablations} | calibration(*ablations) | scores("test", *ablations)
    )


class Change(NamedTuple):
    name: str
    make: Callable
    expected: set[str]


BOTH = ("base", "fused")
# The utterances of speaker `test 0` in the order in which the one draw enrols them; `labels` takes one, with its label.
ENROLLED = sorted(
    (f"u{n}.wav" for n in range(4)), key=lambda name: hashlib.sha256(f"0 test_0/{name}".encode()).hexdigest()
)
CHANGES = [
    Change("nothing", lambda p: None, set()),
    Change("touch", lambda p: touch(p, None), set()),
    Change("touch with an old date", lambda p: touch(p, (10**9, 10**9)), set()),
    Change("checkout elsewhere", move_checkout, set()),
    Change("sheet rewritten", rewrite_sheet, set()),
    Change("lost index", lambda p: shutil.rmtree(p.work / "results" / "manifests"), set()),
    Change("audio, training", lambda p: replace(p, "train_0/u0.wav"), features("train", "000") | training(*BOTH)),
    Change(
        "audio, validation",
        lambda p: replace(p, "validation_0/u0.wav"),
        features("validation", "000") | training(*BOTH),
    ),
    Change("audio, test", lambda p: replace(p, "test_4/u0.wav"), features("test", "001") | scores("test", *BOTH)),
    Change(
        "audio swapped, test",
        lambda p: swap(p, "test_4/u0.wav", "test_4/u1.wav"),
        features("test", "001") | scores("test", *BOTH),
    ),
    Change(
        "utterance more, test",
        lambda p: add_utterance(p, "test_4/new.wav", "test 4", "test"),
        labels("test") | features("test", "001") | scores("test", *BOTH),
    ),
    Change(
        "utterance less, test",
        lambda p: remove_utterances(p, "test 4", "test_4/u0.wav"),
        labels("test") | features("test", "001") | scores("test", *BOTH),
    ),
    Change(
        "speaker more, test",
        lambda p: add_utterance(p, "extra/new.wav", "extra 0", "test"),  # in shard 000
        labels("test") | features("test", "000") | scores("test", *BOTH),
    ),
    Change(
        "speaker less, test",
        lambda p: remove_utterances(p, "test 0"),
        labels("test") | features("test", "000") | scores("test", *BOTH),
    ),
    Change(
        "speaker less, training",
        lambda p: remove_utterances(p, "train 1"),
        labels("train") | features("train", "001") | training(*BOTH),
    ),
    Change(
        "shard less, test",  # its only speaker
        lambda p: remove_utterances(p, "test 4"),
        labels("test") | {f"summarise_embeddings {encoder} test" for encoder in EMBED} | scores("test", *BOTH),
    ),
    Change(
        "speaker from training to test",
        lambda p: move_speaker(p, "train 1", "test"),
        labels("train") | labels("test") | features("train", "001") | features("test", "001") | training(*BOTH),
    ),
    Change("split more", add_split, labels("second") | features("second", "001") | scores("second", *BOTH)),
    Change("label, training", lambda p: change_label(p, "train_1/u0.wav"), labels("train") | training(*BOTH)),
    Change(
        "label, validation", lambda p: change_label(p, "validation_1/u0.wav"), labels("validation") | training(*BOTH)
    ),
    Change("gender, test", lambda p: change_gender(p, "test 0"), {"score_groups"}),
    Change("gender, training", lambda p: change_gender(p, "train 0"), set()),
    Change(
        "no groups",
        lambda p: change_config(p, "corpus", groups=[]),
        {"record_provenance", "write_model_cards"},
    ),
    Change("label, test", lambda p: change_label(p, f"test_0/{ENROLLED[-1]}"), labels("test") | TABLES),
    Change(
        "label of an enrolled utterance, test",
        lambda p: change_label(p, f"test_0/{ENROLLED[0]}"),
        labels("test") | {f"calibrate {ablation} test" for ablation in BOTH} | TABLES,
    ),
    Change(
        "target less", lambda p: change_config(p, "corpus", targets=["valence", "arousal"]), LABELS | training(*BOTH)
    ),
    Change("baseline", lambda p: change_top_level(p, baseline="fused"), SCORED),
    Change("ablation changed", lambda p: change_ablation(p, "base", outputs="separate"), training("base")),
    Change(
        "ablation more",
        lambda p: add_ablation(p, name="third", encoder="plain", layer=1),
        training("third"),
    ),
    Change(
        "frames",  # of an encoder of which no head has read any
        lambda p: add_ablation(p, name="third", encoder="plain", head="transformer"),
        {f"embed_shard_with_frames plain {split} {shard}" for split in SPLITS for shard in SHARDS}
        | {f"summarise_embeddings plain {split}" for split in ("train", "test")}
        | training("base", "third"),
    ),
    Change("ablation less", lambda p: remove_ablation(p, "fused"), TABLES),
    Change("seed more", lambda p: change_top_level(p, seeds=[1, 2]), training(*BOTH)),
    Change("seed less", lambda p: change_top_level(p, seeds=[2]), training(*BOTH)),
    Change("PLDC grid", lambda p: change_config(p, "calibration", k=[1, 2, 3]), calibration(*BOTH)),
    Change(
        "audio limits",
        lambda p: change_top_level(p, audio={"max_seconds": 500}),
        MEASURED | embedded(*EMBED) | training(*BOTH),
    ),
    Change("number type", lambda p: change_encoder(p, "plain", dtype="float32"), embedded("plain") | training("base")),
    Change("threads", lambda p: change_encoder(p, "plain", threads=2), {"record_provenance", "write_model_cards"}),
    Change("utterances that count", lambda p: change_config(p, "evaluation", min_utterances=3), calibration(*BOTH)),
    Change(
        "calibration that is studied",
        lambda p: change_config(p, "evaluation", shift_calibration="mfcc"),
        SCORED - {"score_groups"},
    ),
    Change(
        "bootstrap",  # of correlations
        lambda p: change_config(p, "evaluation", bootstrap_draws=101),
        {"study_label_shift", "record_provenance", "write_model_cards"},
    ),
    Change("epochs", lambda p: change_config(p, "training", epochs=3), training(*BOTH)),
    Change(
        "frames layer", lambda p: change_encoder(p, "framed", frames_layer=1), embedded("framed") | training("fused")
    ),
    Change(
        "encoder weights",
        lambda p: p.scale_encoder("plain", 1.1),
        {"prepare_encoder plain"} | embedded("plain") | training("base"),
    ),
    Change("mfcc.py", lambda p: edit(p, "ser/audio/mfcc.py"), MEASURED | training("fused") | calibration("base")),
    Change("engine.py", lambda p: edit(p, "ser/encoders/engine.py"), embedded(*EMBED) | training(*BOTH)),
    Change("encoder", lambda p: edit(p, "ser/encoders/pretrained.py"), PREPARED | embedded(*EMBED) | training(*BOTH)),
    Change("training.py", lambda p: edit(p, "ser/heads/training.py"), training(*BOTH)),
    Change("pldc.py", lambda p: edit(p, "ser/statistics/pldc.py"), calibration(*BOTH)),
    Change("calibration.py", lambda p: edit(p, "ser/evaluation/calibration.py"), calibration(*BOTH)),
    Change("tables.py", lambda p: edit(p, "ser/evaluation/tables.py"), SCORED - {"score_groups"}),
    Change("groups.py", lambda p: edit(p, "ser/evaluation/groups.py"), {"score_groups"}),
    Change("metadata.py", lambda p: edit(p, "ser/corpus/metadata.py"), {"describe_corpus"}),
    Change("label_shift.py", lambda p: edit(p, "ser/evaluation/label_shift.py"), {"study_label_shift"}),
    Change("index.py", lambda p: edit(p, "ser/corpus/index.py"), set()),
    Change("predict_split.py", lambda p: edit(p, "predict_split.py"), scores("test", *BOTH)),
    Change("build_labels.py", lambda p: edit(p, "build_labels.py"), LABELS | training(*BOTH)),
]


def test_a_first_run_makes_everything(built):
    expected = MEASURED | PREPARED | embedded(*EMBED) | LABELS | training(*BOTH) | {"report"}
    assert built.first_plan == expected
    assert built.first_jobs == expected


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_what_a_change_plans(project, change):
    change.make(project)
    project.expect_plan(change.expected)


def expect_a_clean_build(project):
    """What is there is what the same workflow makes of the same corpus and config from nothing, to the byte."""
    clean = project.copy(project.folder.parent / "clean", "results", ".snakemake")
    clean.checkout = clean.folder / project.checkout.name
    clean.build()
    expected, found = clean.artefacts(), project.artefacts()
    assert [name for name in expected if found.get(name) != expected[name]] == []


@pytest.mark.slow
@pytest.mark.parametrize("change", [change for change in CHANGES if change.expected], ids=lambda change: change.name)
def test_what_a_change_runs(project, change):
    change.make(project)
    project.expect(change.expected)
    expect_a_clean_build(project)


@pytest.mark.long
def test_what_many_changes_run(project):
    change_label(project, f"test_0/{ENROLLED[-1]}")
    add_ablation(project, name="third", encoder="plain", layer=1)
    remove_ablation(project, "fused")
    change_config(project, "calibration", k=[1, 2, 3])
    edit(project, "ser/corpus/metadata.py")
    project.expect(labels("test") | training("third") | calibration("base") | TABLES)
    expect_a_clean_build(project)


def log_of(project, encoder, split, shard):
    name = f"results/logs/embed_shard/{encoder}/{split}/shard-{shard}.log"
    return (project.work / name).read_text(encoding="utf-8")


def read_utterances(project, split):
    path = project.work / f"results/predictions/base/seed-1/{split}.parquet"
    return pq.read_table(path)["utterance_id"].to_pylist()


@pytest.mark.long
def test_a_file_that_is_damaged_and_repaired(project):
    before = project.artefacts()
    path = project.corpus / "audio/test_4/u1.wav"
    content = path.read_bytes()
    below = features("test", "001") | scores("test", *BOTH)

    path.write_bytes(b"no audio at all")
    project.expect(below)
    assert "test_4/u1.wav" in project.artefacts()["metadata/rejected.csv"].decode()
    assert "test_4/u1.wav" not in read_utterances(project, "test")

    path.write_bytes(content)
    project.expect(below)
    for encoder in EMBED:
        assert "3 reused, 1 embedded, 0 rejected" in log_of(project, encoder, "test", "001")
    assert project.artefacts() == before


@pytest.mark.long
def test_what_comes_and_goes_leaves_nothing_behind(project):
    """A test utterance, a test speaker and a test split: tables after are those before; the rest can be pruned."""
    before, sheet = project.artefacts(), read_sheet(project.corpus)
    add_utterance(project, "test_4/new.wav", "test 4", "test")
    add_utterance(project, "extra/new.wav", "extra 0", "test")
    add_split(project)
    added = labels("test") | features("test", *SHARDS) | scores("test", *BOTH)
    project.expect(added | labels("second") | features("second", "001") | scores("second", *BOTH))
    assert {"test_4/new.wav", "extra/new.wav"} < set(read_utterances(project, "test"))
    assert read_utterances(project, "second") == ["other/a.wav", "other/b.wav"]

    write_sheet(project.corpus, sheet)
    project.expect(added)
    after = project.artefacts()
    config = {"provenance.json"}  # the second test split is still in it
    assert {name: after[name] for name in before.keys() - config} == {n: before[n] for n in before.keys() - config}

    (project.work / "results" / "notes.txt").write_text("mine")
    listed = project.run("--dry-run", "prune").stdout
    assert set(project.artefacts()) > {*before, "notes.txt"}
    project.run("prune")
    assert "results/predictions/base/seed-1/second.parquet" in listed
    assert set(project.artefacts()) == {*before, "notes.txt"}
    assert not [path for path in (project.work / "results").rglob("*") if "second" in str(path)]
    assert " 0 files that " in project.run("--dry-run", "prune").stdout
    project.expect_plan(set())


@pytest.mark.long
def test_a_training_file_and_label_changed_and_changed_back(project):
    before, sheet = project.artefacts(), read_sheet(project.corpus)
    path = project.corpus / "audio/train_0/u0.wav"
    content = path.read_bytes()
    expected = features("train", "000") | labels("train") | training(*BOTH)

    replace(project, "train_0/u0.wav")
    change_label(project, "train_1/u0.wav")
    project.expect(expected)
    assert project.artefacts()["ablation_table.csv"] != before["ablation_table.csv"]

    path.write_bytes(content)
    write_sheet(project.corpus, sheet)
    project.expect(expected)
    assert project.artefacts() == before


def test_what_is_of_groups_is_pruned_once_there_are_none(project):
    change_config(project, "corpus", groups=[])
    listed = project.run("--dry-run", "prune").stdout
    assert "results/group_table.csv" in listed and "results/logs/score_groups/score_groups.log" in listed


def test_a_deleted_result(project):
    (project.work / "results/ablation_table.csv").unlink()
    project.expect(SCORED - {"score_groups"})
    # What is there for other files only is made again when one of these has to be: Snakemake's way.
    embeddings = "results/embeddings/plain/test/shard-001.tfrecord"
    (project.work / embeddings).unlink()
    project.expect_plan(set())
    assert project.build(embeddings) == {"embed_shard plain test 001"}
    assert "4 reused, 0 embedded, 0 rejected" in log_of(project, "plain", "test", "001")
    project.expect_plan(set())  # the same bytes


@pytest.mark.parametrize("arguments", [["--forceall"], ["--forcerun", "embed_shard", "--"]])
def test_force_embeds_again(project, arguments):
    assert "embed_shard plain test 001" in project.build(*arguments, "results/embeddings/plain/test/shard-001.tfrecord")
    assert "0 reused, 4 embedded, 0 rejected" in log_of(project, "plain", "test", "001")


def test_the_checkout_is_left_alone(built):
    """The workflow may be installed where its users cannot write."""
    assert built.list_checkout() == built.untouched


@pytest.mark.slow
def test_similar_speaker_weighting_trains_for_test_speakers(project):
    add_ablation(project, name="weighted", encoder="plain", weighting="similar_speakers")
    project.expect(training("weighted"))
    replace(project, "test_4/u0.wav")
    project.expect(features("test", "001") | scores("test", *BOTH) | training("weighted"))


@pytest.mark.slow
def test_two_clean_builds_give_the_same_bytes(built, tmp_path):
    """To the last digit, one of them on one core."""
    clean = built.copy(tmp_path / "clean", "results", ".snakemake")
    clean.build(cores=1)
    expected, found = built.artefacts(), clean.artefacts()
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
