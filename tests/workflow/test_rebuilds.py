"""After a change, what is planned is what runs, and both are what depends on the change: nothing less, nothing more.

expected_jobs.py writes out what should run, independently of the rules. Every change is planned on a copy of the same
finished project, and some are carried out too; `pytest -m slow` carries out each and compares the result with a clean
build.
"""

import pyarrow.parquet as pq
import pytest
from changes import (
    add_ablation,
    add_split,
    add_utterance,
    change_config,
    change_label,
    edit,
    remove_ablation,
    replace,
)
from expected_jobs import (
    BOTH,
    CHANGES,
    EMBED,
    ENROLLED,
    LABELS,
    MEASURED,
    PREPARED,
    SCORED,
    SHARDS,
    TABLES,
    calibration,
    embedded,
    features,
    labels,
    scores,
    training,
)
from made_corpus import read_sheet, write_sheet


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
