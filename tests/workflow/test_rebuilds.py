"""After a change, what is planned is what runs, and both are what depends on the change: nothing less, nothing more.

What should run is written out here, independently of the rules. The tests share one project; each leaves it up to date,
with the names it found, so that they may also be run alone.
"""

import os
import shutil

import pytest
from made_corpus import read_sheet, write_sheet, write_utterance

ENCODER_OF = {"base": "plain", "fused": "framed"}
EMBED = {"plain": "embed_shard", "framed": "embed_shard_with_frames"}
SHARDS = ("000", "001")
TABLES = {"check_protocol", "score"}
OTHER_LABELS = (2.0, 3.0, 4.0)


def features(split, *shards):
    """Everything that is made of the audio of a split's shards."""
    encoders = {f"{EMBED[encoder]} {encoder} {split} {shard}" for encoder in EMBED for shard in shards}
    return {f"measure_audio {split} {shard}" for shard in shards} | encoders | {"describe_corpus"}


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
    """From the training of ablations to the tables."""
    trained = {f"{job} {ablation}" for job in ("train_ablation",) for ablation in ablations}
    return trained | calibration(*ablations) | scores("test", *ablations)


def replace(project, file, seed):
    """Give an audio file other content of the same size, with an older modification time."""
    path = project.corpus / "audio" / file
    before = path.stat()
    write_utterance(path, OTHER_LABELS, voice=0.5, seed=seed)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 10**12))


def add_utterance(project, file, speaker, split):
    write_utterance(project.corpus / "audio" / file, OTHER_LABELS, voice=0.5, seed=1000)
    row = {"file": file, "speaker": speaker, "split": split, "valence": 2, "arousal": 3, "dominance": 4}
    write_sheet(project.corpus, [*read_sheet(project.corpus), row])


def remove_utterance(project, file):
    (project.corpus / "audio" / file).unlink()
    write_sheet(project.corpus, [row for row in read_sheet(project.corpus) if row["file"] != file])


def change_label(project, file):
    rows = read_sheet(project.corpus)
    row = next(row for row in rows if row["file"] == file)
    row["valence"] = "1.5" if row["valence"] != "1.5" else "6.5"
    write_sheet(project.corpus, rows)


def log_of(project, encoder, split, shard):
    name = f"results/logs/embed_shard/{encoder}/{split}/shard-{shard}.log"
    return (project.work / name).read_text(encoding="utf-8")


def test_a_first_run_makes_everything(project):
    splits = ("train", "validation", "test")
    expected = {"prepare_encoder plain", "prepare_encoder framed"} | training("base", "fused")
    expected |= {job for split in splits for job in features(split, *SHARDS) | labels(split)}
    assert project.first_plan == expected
    assert project.first_build == expected
    project.expect(set())


@pytest.mark.parametrize("seconds", [0, -1_000_000], ids=["now", "in the past"])
def test_a_touch_runs_nothing(project, seconds):
    for folder in (project.corpus, project.work / "encoders", project.checkout):
        for path in folder.rglob("*"):
            moment = path.stat().st_mtime_ns if seconds else os.times().elapsed
            os.utime(path, None if not seconds else (moment / 1e9 + seconds,) * 2)
    os.utime(project.work / "config.yaml")
    project.expect_plan(set())


def test_a_lost_index_is_made_again_and_runs_nothing(project):
    shutil.rmtree(project.work / "results" / "manifests")
    project.expect_plan(set())


def test_the_content_of_a_test_file(project):
    before = project.artefacts()
    original = (project.corpus / "audio/test_4/u1.wav").read_bytes()
    below = features("test", "001") | scores("test", "base", "fused")

    replace(project, "test_4/u1.wav", seed=500)
    project.expect(below)
    for encoder in EMBED:
        assert "3 reused, 1 embedded, 0 rejected" in log_of(project, encoder, "test", "001")
    assert project.artefacts()["ablation_table.csv"] != before["ablation_table.csv"]

    (project.corpus / "audio/test_4/u1.wav").write_bytes(original[: len(original) // 2] + b"\0" * 10_000)
    (project.corpus / "audio/test_4/u1.wav").write_bytes(b"no audio at all")
    project.expect(below)
    assert "test_4/u1.wav" in project.artefacts()["metadata/rejected.csv"].decode()
    assert b"test_4/u1.wav" not in project.artefacts()["predictions/base/seed-1/test.parquet"]

    (project.corpus / "audio/test_4/u1.wav").write_bytes(original)
    project.expect(below)
    assert project.artefacts() == before


def test_utterances_and_speakers_of_a_test_split(project):
    before = project.artefacts()
    add_utterance(project, "test_4/new.wav", "test 4", "test")
    one = labels("test") | features("test", "001") | scores("test", "base", "fused")
    project.expect_plan(one)
    add_utterance(project, "extra/new.wav", "extra 0", "test")  # in shard 000
    both = one | features("test", "000")
    project.expect(both)
    assert b"extra 0" in project.artefacts()["speaker_summary.csv"]

    remove_utterance(project, "extra/new.wav")
    remove_utterance(project, "test_4/new.wav")
    project.expect(both)
    assert project.artefacts() == before


def test_a_test_split_comes_and_goes(project):
    before = project.artefacts()
    sheet = read_sheet(project.corpus)
    with project.configure() as config:
        config["corpus"]["test_splits"] = ["test", "second"]
    project.expect_plan(set())  # a name that the sheet does not use
    add_utterance(project, "other/a.wav", "other 0", "second")  # in shard 001
    add_utterance(project, "other/b.wav", "other 0", "second")
    project.expect(labels("second") | features("second", "001") | scores("second", "base", "fused"))

    write_sheet(project.corpus, sheet)
    project.expect({"describe_corpus"} | TABLES)
    after = project.artefacts()
    assert {name: after[name] for name in before} == before


def test_a_test_label(project):
    change_label(project, "test_0/u0.wav")
    project.expect(labels("test") | TABLES)


def test_what_evaluation_is_told(project):
    with project.configure() as config:
        config["evaluation"]["bootstrap_draws"] += 1
    project.expect_plan({"score"})
    with project.configure() as config:
        config["calibration"]["k"] = [1, 2, 3]
    project.expect(calibration("base", "fused"))


def test_a_deleted_result(project):
    (project.work / "results/ablation_table.csv").unlink()
    project.expect_plan({"score"})
    (project.work / "results/embeddings/plain/test/shard-001.tfrecord").unlink()
    project.expect({"embed_shard plain test 001"} | scores("test", "base"))
    assert "4 reused, 0 embedded, 0 rejected" in log_of(project, "plain", "test", "001")


def test_the_content_and_a_label_of_training_files(project):
    replace(project, "train_0/u0.wav", seed=600)  # shard 000
    expected = features("train", "000") | training("base", "fused")
    project.expect_plan(expected)
    change_label(project, "train_1/u0.wav")
    expected |= labels("train")
    project.expect(expected)


def test_a_validation_label(project):
    before = read_sheet(project.corpus)
    change_label(project, "validation_0/u0.wav")
    project.expect_plan(labels("validation") | training("base", "fused"))
    write_sheet(project.corpus, before)
    project.expect_plan(set())


def test_ablations_that_change_come_and_go(project):
    with project.configure() as config:
        config["ablations"][0]["outputs"] = "separate"
    project.expect_plan(training("base"))
    with project.configure() as config:
        config["ablations"].append({"name": "third", "encoder": "plain", "layer": 1, "training": {"epochs": 1}})
    project.expect(training("base", "third"))
    with project.configure() as config:
        config["ablations"].pop()
    project.expect(TABLES)


def test_an_encoder_and_its_options(project):
    with project.configure() as config:
        config["encoders"]["framed"]["frames_layer"] = 1
    embedded = {
        f"embed_shard_with_frames framed {split} {s}" for split in ("train", "validation", "test") for s in SHARDS
    }
    expected = embedded | training("fused")
    project.expect_plan(expected)
    project.scale_encoder("plain", 1.1)
    embedded = {f"embed_shard plain {split} {s}" for split in ("train", "validation", "test") for s in SHARDS}
    project.expect(expected | {"prepare_encoder plain"} | embedded | training("base"))


MEASURED = {f"measure_audio {split} {shard}" for split in ("train", "validation", "test") for shard in SHARDS}
EMBEDDED = {
    f"{EMBED[encoder]} {encoder} {split} {shard}"
    for encoder in EMBED
    for split in ("train", "validation", "test")
    for shard in SHARDS
}
PREDICTED = {"predict_split base test", "predict_split fused test"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ser/mfcc.py", MEASURED | {"describe_corpus"} | training("fused") | calibration("base")),
        ("ser/hubert.py", EMBEDDED | training("base", "fused")),
        ("ser/encoder.py", {"prepare_encoder plain", "prepare_encoder framed"} | EMBEDDED | training("base", "fused")),
        ("ser/training.py", training("base", "fused")),
        ("ser/heads.py", training("base", "fused")),
        ("ser/calibration.py", calibration("base", "fused")),
        ("ser/tables.py", {"score"}),
        ("ser/metadata.py", {"describe_corpus"}),
        ("ser/label_shift.py", set()),  # the default target does not need it
        ("predict_split.py", scores("test", "base", "fused")),
        ("build_labels.py", {job for split in ("train", "validation", "test") for job in labels(split)} | training("base", "fused")),
        ("ser/index.py", set()),
    ],
)  # fmt: skip
def test_the_code_of_a_stage(project, source, expected):
    path = project.checkout / "workflow_scripts" / source
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "\n# An edit.\n", encoding="utf-8")
    project.expect_plan(expected)
    path.write_text(before, encoding="utf-8")
    project.expect_plan(set())


def test_a_seed_more_and_edited_code_run(project):
    with project.configure() as config:
        config["seeds"] = [1, 2] if config["seeds"] == [1] else [1]
    project.expect_plan(training("base", "fused"))
    path = project.checkout / "workflow_scripts" / "ser" / "mfcc.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# An edit.\n", encoding="utf-8")
    project.expect(training("base", "fused") | MEASURED | {"describe_corpus"})


def test_force_embeds_again(project):
    target = "results/embeddings/plain/test/shard-001.tfrecord"
    for arguments in (["--forceall", target], ["--forcerun", "embed_shard", "--", target]):
        assert "embed_shard plain test 001" in project.build(*arguments)
        assert "0 reused, 4 embedded, 0 rejected" in log_of(project, "plain", "test", "001")
    project.build()


def test_a_clean_build_on_one_core_gives_the_same_bytes(project, tmp_path):
    """Two builds agree to the last digit, one of them on two cores and after whatever changes came before."""
    clean = project.copy_inputs(tmp_path / "clean")
    clean.build(cores=1)
    built, expected = project.artefacts(), clean.artefacts()
    assert set(expected) <= set(built)  # what an old config made is left there
    assert [name for name in expected if built[name] != expected[name]] == []
