"""After a change, what is planned is what runs, and both are what depends on the change: nothing less, nothing more.

What should run is written out here, independently of the rules. The tests share one project; each leaves it up to date,
with the names it found, so that they may also be run alone.
"""

import os
import shutil

import pyarrow.parquet as pq
import pytest
from made_corpus import read_sheet, write_sheet, write_utterance

EMBED = {"plain": "embed_shard", "framed": "embed_shard_with_frames"}
SPLITS = ("train", "validation", "test")
SHARDS = ("000", "001")
OTHER_LABELS = (2.0, 3.0, 4.0)
TABLES = {"check_protocol", "score", "study_label_shift"}
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
    jobs |= {f"summarise_embeddings {encoder} {split}" for encoder in EMBED}
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
    """From the training of ablations to the tables."""
    return (
        {f"train_ablation {ablation}" for ablation in ablations} | calibration(*ablations) | scores("test", *ablations)
    )


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


def reverse_keys(value):
    """A config with the keys in another order, at every depth."""
    if isinstance(value, dict):
        return {key: reverse_keys(item) for key, item in reversed(value.items())}
    return [reverse_keys(item) for item in value] if isinstance(value, list) else value


def utterances(project, split):
    path = project.work / f"results/predictions/base/seed-1/{split}.parquet"
    return pq.read_table(path)["utterance_id"].to_pylist()


def test_a_first_run_makes_everything(project):
    expected = MEASURED | PREPARED | embedded("plain", "framed") | LABELS | training("base", "fused")
    assert project.first_plan == expected
    assert project.first_build == expected
    project.expect_plan(set())


@pytest.mark.parametrize("moment", [None, (10**9, 10**9)], ids=["now", "2001"])
def test_a_touch_runs_nothing(project, moment):
    for folder in (project.corpus, project.work / "encoders", project.checkout):
        for path in folder.rglob("*"):
            os.utime(path, moment)
    project.config = reverse_keys(project.config)
    os.utime(project.work / "config.yaml", moment)
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

    (project.corpus / "audio/test_4/u1.wav").write_bytes(b"no audio at all")
    project.expect(below)
    assert "test_4/u1.wav" in project.artefacts()["metadata/rejected.csv"].decode()
    assert "test_4/u1.wav" not in utterances(project, "test")

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
    assert "extra/new.wav" in utterances(project, "test")

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

    # What is left of it is listed by `snakemake -n prune` and removed by `snakemake prune`.
    (project.work / "results" / "notes.txt").write_text("mine")
    listed = project.run("--dry-run", "prune").stdout
    assert set(project.artefacts()) > set(before)
    project.run("prune")
    assert "results/predictions/base/seed-1/second.parquet" in listed
    assert set(project.artefacts()) == set(before) | {"notes.txt"}
    assert not [path for path in (project.work / "results").rglob("*") if "second" in str(path)]
    assert " 0 files that " in project.run("--dry-run", "prune").stdout
    project.expect_plan(set())


def test_a_test_label(project):
    change_label(project, "test_0/u0.wav")
    project.expect(labels("test") | TABLES)


def test_what_evaluation_is_told(project):
    with project.configure() as config:
        config["evaluation"]["bootstrap_draws"] += 1
    project.expect_plan({"score", "study_label_shift"})
    with project.configure() as config:
        config["calibration"]["k"] = [1, 2, 3]
    project.expect(calibration("base", "fused"))


def test_a_deleted_result(project):
    (project.work / "results/ablation_table.csv").unlink()
    project.expect({"score", "study_label_shift"})
    # What is there for other files only is made again when one of these has to be: Snakemake's way.
    embeddings = "results/embeddings/plain/test/shard-001.tfrecord"
    (project.work / embeddings).unlink()
    project.expect_plan(set())
    assert project.build(embeddings) == {"embed_shard plain test 001"}
    assert "4 reused, 0 embedded, 0 rejected" in log_of(project, "plain", "test", "001")
    project.expect_plan(set())  # the same bytes


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
    expected = embedded("framed") | training("fused")
    project.expect_plan(expected)
    project.scale_encoder("plain", 1.1)
    project.expect(expected | {"prepare_encoder plain"} | embedded("plain") | training("base"))


def edit(project, source):
    path = project.checkout / "workflow_scripts" / source
    path.write_text(path.read_text(encoding="utf-8") + "\n# An edit.\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ser/mfcc.py", MEASURED | training("fused") | calibration("base")),
        ("ser/hubert.py", embedded("plain", "framed") | training("base", "fused")),
        ("ser/encoder.py", PREPARED | embedded("plain", "framed") | training("base", "fused")),
        ("ser/training.py", training("base", "fused")),
        ("ser/calibration.py", calibration("base", "fused")),
        ("ser/tables.py", {"score", "study_label_shift"}),
        ("ser/metadata.py", {"describe_corpus"}),
        ("ser/label_shift.py", {"study_label_shift"}),
        ("ser/index.py", set()),
        ("predict_split.py", scores("test", "base", "fused")),
        ("build_labels.py", LABELS | training("base", "fused")),
    ],
)
def test_an_edit_of_a_module_or_script(project, source, expected):
    path = project.checkout / "workflow_scripts" / source
    before = path.read_text(encoding="utf-8")
    edit(project, source)
    project.expect_plan(expected)
    path.write_text(before, encoding="utf-8")


def test_one_seed_more_and_an_edit_that_runs(project):
    with project.configure() as config:
        config["seeds"] = [1, 2]
    project.expect_plan(training("base", "fused"))
    edit(project, "ser/mfcc.py")
    project.expect(training("base", "fused") | MEASURED)


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
