"""A cell's provenance: its figures come out of the files again, its neighbours are those that calibration used."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import audmetric
import numpy as np
import pandas
import pytest
from made_provenance import add_provenance
from made_results import METHODS, SPEAKERS, MadeResults

from ser.evaluation.cells import CEILING_O, ORACLE, SPEAKER_MEAN
from ser.files import DataError, read_json, sha256, write_json
from ser.tracing.comparison import compare, summarise
from ser.tracing.explanation import explain_cell
from ser.tracing.explanation_text import format_explanation

SCRIPT = Path(__file__).parents[2] / "workflow_scripts" / "explain.py"
USED = (2, 3, 6, 8, 10, 12, 13, 14)  # of METHODS: one of each kind
CELL = {"ablation": "other", "calibration": "mu_sigma", "target": "arousal", "split": "test"}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    made = MadeResults(tmp_path_factory.mktemp("made"), methods=[METHODS[i] for i in USED])
    made.evaluate()
    add_provenance(made)
    return made


@pytest.fixture
def broken(pristine, tmp_path):
    """A copy of the results to break."""
    return shutil.copytree(pristine.root, tmp_path / "results")


def score_again(made, ablation, calibration, target, split):
    """O-CCC and A-CCC by another library, from the files: averaged over seeds, and over draws of random neighbours."""
    labels = pandas.read_parquet(made.labels(split)).set_index("utterance_id")
    pooled, averaged = [], []
    for path in made.seed_files("calibrated", ablation, split):
        rows = pandas.read_parquet(path)
        method = rows["calibration"].astype(str).str.split("/").str[0]
        for _, run in rows[method == calibration].groupby("calibration", observed=True):
            truth = labels.loc[run["utterance_id"], target].to_numpy()
            pooled.append(audmetric.concordance_cc(truth, run[target].to_numpy()))
            speakers = [
                audmetric.concordance_cc(labels.loc[of["utterance_id"], target].to_numpy(), of[target].to_numpy())
                for _, of in run.groupby("speaker_id")
            ]
            averaged.append(np.mean(speakers))
    return np.mean(pooled), np.mean(averaged)


@pytest.mark.parametrize("calibration", ["none", *(METHODS[i]["name"] for i in USED)])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_figures_are_those_of_the_files(pristine, calibration, split):
    cell = CELL | {"calibration": calibration, "split": split}
    explained = explain_cell(pristine.root, **cell)
    expected = score_again(pristine, **cell)
    found = [float(explained["figures"][name]) for name in ("o_ccc", "a_ccc")]
    np.testing.assert_allclose(found, expected, atol=2e-6)  # float32 predictions, 6 decimals
    assert explained["differences"] == {}


@pytest.mark.parametrize(
    ("ablation", "calibration"),
    [("baseline", ORACLE), ("baseline", CEILING_O), ("baseline", "none"), (SPEAKER_MEAN, "none")],
)
def test_rows_without_neighbours(pristine, ablation, calibration):
    explained = explain_cell(pristine.root, **CELL | {"ablation": ablation, "calibration": calibration})
    assert explained["differences"] == {} and explained["seeds"] == []


def test_neighbours_are_the_nearest_by_cosine(pristine):
    explained = explain_cell(pristine.root, **CELL)
    for seed, vectors, references in zip(
        explained["seeds"],
        pristine.seed_files("speaker_vectors", "other", "test"),
        pristine.seed_files("speaker_vectors", "other", "train"),
        strict=True,
    ):
        reference = pandas.read_parquet(references).set_index("speaker_id")["vector"]
        for (name, vector), speaker in zip(
            pandas.read_parquet(vectors).set_index("speaker_id")["vector"].items(), seed["speakers"], strict=True
        ):
            cosine = reference.map(lambda v, u=vector: np.dot(u, v) / np.linalg.norm(u) / np.linalg.norm(v))
            nearest = cosine.sort_values(ascending=False)[: seed["k"]]
            assert (speaker["speaker"], list(speaker["neighbours"])) == (name, list(nearest.index))
            np.testing.assert_allclose(list(speaker["neighbours"].values()), nearest, atol=1e-6)  # vectors are float32


@pytest.mark.parametrize("calibration", [METHODS[i]["name"] for i in USED])
def test_neighbours_give_the_stored_predictions(pristine, calibration):
    explained = explain_cell(pristine.root, **CELL | {"calibration": calibration})
    assert [seed["seed"] for seed in explained["seeds"]] == pristine.seeds
    for seed in explained["seeds"]:
        assert seed["largest_difference"] < 1e-5  # float32
        assert {len(speaker["neighbours"]) for speaker in seed["speakers"]} == {seed["k"]}
        if calibration == "mu_sigma":  # what its neighbours say is where the speaker's predictions are
            rows = pandas.read_parquet(pristine.root / f"calibrated/other/seed-{seed['seed']}/test.parquet")
            moved = rows[rows["calibration"] == calibration].groupby("speaker_id")["arousal"]
            for key, statistics in {"mean": moved.mean(), "sd": moved.std(ddof=0)}.items():
                found = [speaker[f"neighbours_label_{key}"] for speaker in seed["speakers"]]
                np.testing.assert_allclose(found, statistics, atol=1e-5)


def test_files_and_counts(pristine):
    explained = explain_cell(pristine.root, **CELL)
    files = explained["files"]
    assert list(files["models"]) == [str(pristine.root / f"models/other/seed-{seed}/model.keras") for seed in (1, 2)]
    assert all(digest == sha256(path) for group in files.values() for path, digest in group.items())
    assert len(files["embeddings"]) == 3 and len(files["speaker vectors"]) == 3
    vectors = {path for split in ("train", "test") for path in pristine.seed_files("speaker_vectors", "other", split)}
    assert set(files["compared"]) == vectors
    assert explained["corpus"]["test"] == {
        "speakers": SPEAKERS["test"],
        "utterances": SPEAKERS["test"] * 15 - 1,
        "hours": round((SPEAKERS["test"] * 15 - 1) * 2 / 3600, 3),
        "rejected": 1,
    }
    assert explained["code_changed_since"] == ["workflow_scripts/score.py"]  # the made-up digest is not the file's
    assert explained["command"].endswith(
        " results/calibrated/other/seed-1/test.parquet results/calibrated/other/seed-2/test.parquet"
    )


def test_a_tuned_ablation_of_a_personalised_encoder(broken):
    """The settings are those that tuning found; what adapted the encoder and the speakers' vectors are named."""
    provenance, splits = read_json(broken / "provenance.json"), ("train", "validation", "test")
    config, settings = provenance["config"], provenance["ablations"]["other"]
    config["corpus"] |= {"layout": "csv", "test_splits": ["test"]}
    plain = {"adaptation": "none", "position": "last", "splits": ["train"], "neighbours": 5}
    config["encoders"] = {"demo": plain, "mine": plain | {"adaptation": "papt"}}
    config |= {"pseudo_labels": {"mfcc": {"features": "mfcc"}}, "pretraining": {"epochs": 3}}
    settings |= {"encoder": "mine", "training": {"dropout": 0.3}, "units": [8], "tuned": {"ablation": "baseline"}}
    write_json(broken / "provenance.json", provenance)
    write_json(broken / "tuning/baseline.json", {"settings": {"dropout": 0.1}})
    made = ["tuning/baseline.json", "pseudo_labels/mfcc/clusters.safetensors"]
    made += [f"encoders/mine/{name}" for name in ("model.safetensors", "adaptation.safetensors", "card.json")]
    made += [f"pseudo_labels/mfcc/{split}/shard-000.parquet" for split in ("train", "validation")]
    made += [f"encoder_summaries/demo/{split}.parquet" for split in ("train", "validation")]  # whom speakers resemble
    made += [f"embeddings/demo/{split}/shard-000.tfrecord" for split in splits]
    for kind in ("embeddings/mine/{}/shard-000.tfrecord", "speaker_embeddings/mine/{}/shard-000.json"):
        made += [kind.format(split) for split in splits]
    for path in made[1:]:
        (broken / path).parent.mkdir(parents=True, exist_ok=True)
        (broken / path).write_text('{"made": "up"}')
    explained = explain_cell(broken, **CELL)
    listed = {path for group in explained["files"].values() for path in group}
    assert {str(broken / path) for path in made if not path.endswith("card.json")} <= listed
    assert explained["config"]["ablation"]["training"] == {"dropout": 0.1}
    assert explained["config"]["encoder"]["pretraining"] == {"epochs": 3}
    assert "dropout: 0.1" in format_explanation(explained)


def add_vectors(results, name, **options):
    """Speaker vectors of a provenance, which the ablation `other` takes."""
    provenance = read_json(results / "provenance.json")
    given = dict.fromkeys(("features", "encoder", "model", "revision", "file", "permute"))
    given |= {"layer": -1, "device": "auto", "threads": 1}
    provenance["config"].setdefault("speaker_vectors", {})[name] = given | options
    provenance["ablations"]["other"]["speaker"] = name
    write_json(results / "provenance.json", provenance)


SPLITS, VECTORS = ("train", "validation", "test"), "utterance_vectors/given"


@pytest.mark.parametrize(
    ("options", "files", "shards"),
    [
        ({"model": "hub/id"}, [f"speaker_models/given/{n}.safetensors" for n in ("model", "xvector")], VECTORS),
        ({"features": "egemaps"}, [], VECTORS),
        ({"features": "embeddings", "encoder": "two"}, ["encoders/two/model.safetensors"], "embeddings/two"),
    ],
)
@pytest.mark.parametrize("permuted", [False, True])
def test_what_speaker_vectors_are_made_of_is_named(broken, options, files, shards, permuted):
    provenance = read_json(broken / "provenance.json")
    provenance["config"]["encoders"]["two"] = provenance["config"]["encoders"]["demo"]
    write_json(broken / "provenance.json", provenance)
    add_vectors(broken, "given", **options)
    if permuted:
        add_vectors(broken, "control", permute="given")
    behind = [*files, *(f"{shards}/{split}/shard-000.tfrecord" for split in SPLITS)]
    behind += [f"speakers/given/{split}/shard-000.json" for split in SPLITS]
    for path in [*behind, *(f"speakers/control/{split}/permuted.json" for split in SPLITS)]:
        (broken / path).parent.mkdir(parents=True, exist_ok=True)
        (broken / path).write_text("{}")
    files = explain_cell(broken, **CELL)["files"]
    listed = {path for group in files.values() for path in group}
    assert {str(broken / path) for path in behind} <= listed
    assert (str(broken / "speakers/control/test/permuted.json") in files["speaker vectors"]) == permuted


def test_a_summary_holds_what_speaker_vectors_come_from(broken):
    add_vectors(broken, "unused", model="x")
    add_vectors(broken, "xvector", model="hub/id")
    add_vectors(broken, "ecapa", file="ecapa.parquet")
    card = {"weights_sha256": "1" * 64, "xvector_sha256": "2" * 64}
    made = {"speaker_models/xvector/card.json": card, "speakers/ecapa/test/shard-000.json": {"a": [1.0], "b": [2.0]}}
    for path, value in made.items():
        (broken / path).parent.mkdir(parents=True)
        write_json(broken / path, value)
    first = summarise(broken)
    assert first["vectors"]["xvector"] == {"model": "1" * 64, "head": "2" * 64}
    write_json(broken / "speakers/ecapa/test/shard-000.json", {"a": [1.0], "b": [2.5]})
    (change,) = compare(first, summarise(broken))[0]
    assert (change.where, list(change.items), change.ablations) == ("ecapa test", ["b"], {"other"})


def test_the_text_names_what_it_found(pristine):
    text = format_explanation(explain_cell(pristine.root, **CELL))
    assert text.startswith("other · mu_sigma · arousal · test\n")
    assert "computed again from the calibrated predictions and labels: the same" in text
    for number in range(SPEAKERS["test"]):
        assert f"test {number:03d}: predicted" in text


def test_a_table_that_the_files_do_not_give(broken):
    path = broken / "ablation_table.csv"
    rows = pandas.read_csv(path, dtype=str, keep_default_na=False)
    mine = (rows[list(CELL)] == list(CELL.values())).all(axis=1)
    rows.loc[mine, "o_ccc"] = "0.999999"
    rows.to_csv(path, index=False)
    write_json(broken / "provenance.json", read_json(broken / "provenance.json") | {"table_sha256": sha256(path)})
    explained = explain_cell(broken, **CELL)
    assert {name: values[0] for name, values in explained["differences"].items()} == {"o_ccc": "0.999999"}
    assert "NOT what the predictions and labels give now" in format_explanation(explained)


def test_a_k_that_is_not_the_stored_predictions(broken):
    path = broken / "calibration/other/choices.json"
    choices = read_json(path)
    for choice in choices["choices"]:
        choice["k"] += 1
    write_json(path, choices)
    explained = explain_cell(broken, **CELL)
    assert all(seed["largest_difference"] > 1e-3 for seed in explained["seeds"])
    assert "NOT the neighbours of the stored predictions" in format_explanation(explained)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ablation": "othr"}, "has no ablation 'othr'; did you mean 'other'"),
        ({"calibration": "true mean and spread"}, r"did you mean 'true mean and spread \(test labels\)'"),
        ({"target": "xyz"}, "has no target 'xyz'; there are valence, arousal"),
        ({"split": "tests"}, "has no split 'tests'; did you mean 'test'"),
        ({"ablation": SPEAKER_MEAN, "calibration": "mu_sigma"}, "has no calibration 'mu_sigma'; there are none"),
    ],
)
def test_wrong_names_are_answered_with_near_ones(pristine, wrong, message):
    with pytest.raises(DataError, match=message):
        explain_cell(pristine.root, **CELL | wrong)


@pytest.mark.parametrize("ask", [lambda results: explain_cell(results, **CELL), summarise])
def test_a_table_that_was_made_without_its_provenance_is_not_explained(broken, ask):
    """As `snakemake results/ablation_table.csv` leaves it after a change of the config or of anything else."""
    ask(broken)
    table = broken / "ablation_table.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    message = r"provenance.json: is of another table than .*; make it with: snakemake .* results/provenance.json$"
    with pytest.raises(DataError, match=message):
        ask(broken)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("provenance.json", r"provenance.json: is not there; make it with: snakemake .* results/provenance.json"),
        ("ablation_table.csv", r"ablation_table.csv: is not there; make it with: snakemake .* results/provenance.json"),
        (
            "models/other/seed-2/model.keras",
            r"model.keras: is gone; make it with: snakemake .* results/models/other/seed-2/model.keras",
        ),
    ],
)
def test_what_is_gone_is_named_with_the_command_that_makes_it(broken, gone, message):
    (broken / gone).unlink()
    with pytest.raises(DataError, match=message):
        explain_cell(broken, **CELL)


def test_the_script(pristine):
    cell = [word for name, value in CELL.items() for word in (f"--{name}", value)]
    command = [sys.executable, SCRIPT, *cell, "--results", pristine.root]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("other · mu_sigma · arousal · test\n")
    wrong = subprocess.run([*command, "--split", "tset"], capture_output=True, text=True)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.endswith("has no split 'tset'; did you mean 'test'?\n")


def test_a_table_that_is_not_the_run_s_is_refused(broken):
    """One digit of it."""
    content = bytearray((broken / "ablation_table.csv").read_bytes())
    content[content.rindex(b"1")] ^= 1
    (broken / "ablation_table.csv").write_bytes(content)
    with pytest.raises(DataError, match="provenance.json: is of another table than .*ablation_table.csv is now"):
        explain_cell(broken, **CELL)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("seeds", ["1; touch ran #"]),
        ("seeds", [True]),
        ("baseline", "../../etc"),
        ("encoders", {"$(touch ran)": {}}),
        ("calibration", {"methods": [{"name": "x\ny"}]}),
        ("calibration", None),
    ],
)
def test_a_provenance_of_names_that_no_config_can_have_is_refused(broken, section, value):
    """Names are parts of the paths that are read, and of the command that is printed to be pasted."""
    path = broken / "provenance.json"
    made = read_json(path)
    write_json(path, made | {"config": made["config"] | {section: value}})
    with pytest.raises(DataError, match="provenance.json: has names or seeds that no config can have"):
        explain_cell(broken, **CELL)


def test_a_provenance_that_is_none_is_refused(broken):
    write_json(broken / "provenance.json", ["config"])
    with pytest.raises(DataError, match="provenance.json: is no provenance of a run"):
        explain_cell(broken, **CELL)


def test_what_is_pasted_is_quoted_and_what_is_shown_is_clean(broken, tmp_path):
    folder = tmp_path / "a b; touch ran; $(touch ran) 'x"
    folder.mkdir()
    results = broken.rename(folder / "results")
    card = results / "encoders/demo/card.json"
    write_json(card, read_json(card) | {"base": "\x1b]0;owned\x07\x9b31m\u202ered"})
    cell = [word for name, value in CELL.items() for word in (f"--{name}", value)]
    done = subprocess.run([sys.executable, SCRIPT, *cell, "--results", results], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.splitlines()[-1])
    assert words[:2] == ["snakemake", "--snakefile"] and words[words.index("--directory") + 1] == str(folder)
    assert done.stdout.replace("\n", "").isprintable()
    assert r"\x1b]0;owned\x07\x9b31m\u202ered" in done.stdout
