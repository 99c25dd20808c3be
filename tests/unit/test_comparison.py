"""Which cells changed, and which input can account for it: each change made alone, with what it reaches written out."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from ser.files import DataError, write_json
from ser.tracing.comparison import compare, read_summary
from ser.tracing.comparison_text import format_comparison

SCRIPT = Path(__file__).parents[2] / "workflow_scripts" / "compare.py"
ABLATIONS = ("base", "mfcc", "weighted")
CALIBRATIONS = ("none", "mu", "sigma", "ceiling of A-CCC (test labels)")
SPLITS = ("validation", "test", "test2")


def make_row(ablation, calibration, target, split):
    figures = {"o_ccc": 0.5, "o_ccc_low": 0.4, "o_ccc_high": 0.6, "a_ccc": 0.3, "a_ccc_low": 0.1, "a_ccc_high": 0.5}
    key = {"ablation": ablation, "calibration": calibration, "target": target, "split": split}
    return key | {name: f"{value:.6f}" for name, value in figures.items()} | {"delta_o_ccc": "", "delta_a_ccc": ""}


def make_summary():
    settings = {"encoder": "one", "weighting": "none", "training": {"epochs": 60}}
    methods = [{"name": name, "shift": name} for name in ("mu", "sigma")]
    return {
        "provenance": {
            "config": {
                "corpus": {"folder": "corpus", "shards": 2},
                "encoders": {"one": {"base": "a", "dtype": "float16"}, "two": {"base": "b", "dtype": "float16"}},
                "seeds": [1, 2],
                "baseline": "base",
                "training": {"epochs": 60},
                "calibration": {"methods": methods, "k": [1, 2]},
                "evaluation": {"min_utterances": 2, "shift_calibration": "mu"},
            },
            "ablations": {
                "base": settings,
                "mfcc": settings | {"encoder": "two"},
                "weighted": settings | {"weighting": "similar_speakers"},
            },
            "code": {"score.py": {"ser/a.py": "1" * 64}, "train.py": {"ser/a.py": "1" * 64, "ser/b.py": "2" * 64}},
            "packages": {"numpy": "2.0", "torch": "2.1"},
            "python": "3.11.0",
            "git": None,
        },
        "audio": {split: {f"{split}.wav": "a" * 64} for split in ("train", *SPLITS)},
        "labels": {split: {f"{split}.wav": "s, 1.0"} for split in ("train", *SPLITS)},
        "encoders": {"one": "e" * 64, "two": "f" * 64},
        "table": [make_row(*key) for key in product(ABLATIONS, CALIBRATIONS, ("valence",), SPLITS)],
    }


def make(path, value):
    """A function that sets a value deep in a summary."""

    def change(summary):
        *parents, last = path
        for name in parents:
            summary = summary[name]
        summary[last] = value

    return change


MADE, CONFIG = ("provenance",), ("provenance", "config")
CASES = [
    # what is changed, where it is named, and the ablations, calibrations and splits that it reaches; None is all
    (make(("audio", "train", "train.wav"), "b" * 64), "audio train", None, None, None),
    (make(("audio", "validation", "new.wav"), "b" * 64), "audio validation", None, None, None),
    (make(("audio", "test", "test.wav"), "b" * 64), "audio test", "test or weighted", None, None),
    (make(("labels", "test2", "test2.wav"), "s, 2.0"), "labels test2", None, None, {"test2"}),
    (make(("labels", "train", "train.wav"), "s, 2.0"), "labels train", None, None, None),
    (make(("encoders", "two"), "0" * 64), "encoder two", {"mfcc"}, None, None),
    (make((*CONFIG, "encoders", "two", "dtype"), "float32"), "config encoders.two.dtype", {"mfcc"}, None, None),
    (make((*CONFIG, "seeds"), [1]), "config seeds", None, None, None),
    (make((*CONFIG, "calibration", "k"), [1]), "config calibration.k", None, {"mu", "sigma"}, None),
    (
        make((*CONFIG, "calibration", "methods"), [{"name": "sigma", "shift": "sigma"}, {"name": "mu", "shift": "x"}]),
        "config calibration.methods.mu.shift",
        None,
        {"mu"},
        None,
    ),
    (make((*CONFIG, "evaluation", "min_utterances"), 3), "config evaluation.min_utterances", None, None, None),
    (
        make((*MADE, "ablations", "mfcc"), {"encoder": "two", "weighting": "none", "training": {"epochs": 9}}),
        "config ablations.mfcc.training.epochs",
        {"mfcc"},
        None,
        None,
    ),
    (make((*MADE, "code", "train.py", "ser/b.py"), "3" * 64), "code", None, None, None),
    (make((*MADE, "packages", "torch"), "2.2"), "packages", None, None, None),
]


@pytest.mark.parametrize(("change", "named", "ablations", "calibrations", "splits"), CASES, ids=[c[1] for c in CASES])
def test_each_input_is_named_and_reaches_what_it_can(change, named, ablations, calibrations, splits):
    before, after = make_summary(), make_summary()
    change(after)
    for row in after["table"]:
        row["a_ccc"] = "0.310000"
    changes, differences = compare(before, after)
    assert [f"{each.kind} {each.where}".strip() for each in changes] == [named]
    assert len(differences) == len(before["table"])
    reached = {tuple(each.cell.values()) for each in differences if each.causes}
    if ablations == "test or weighted":
        # of the uncalibrated rows the deltas are against `base`, which is not trained for test speakers
        expected = {key for key in map(key_of, before["table"]) if key[3] == "test" or key[0] == "weighted"}
    else:
        expected = {
            key
            for key in map(key_of, before["table"])
            if (ablations is None or key[0] in ablations)
            and (calibrations is None or key[1] in calibrations)
            and (splits is None or key[3] in splits)
        }
    assert reached == expected


def key_of(row):
    return tuple(row[name] for name in ("ablation", "calibration", "target", "split"))


def test_audio_that_an_encoder_was_pretrained_on_reaches_all_splits():
    before, after = make_summary(), make_summary()
    for summary in (before, after):
        summary["provenance"]["config"]["encoders"]["two"] |= {"adaptation": "tapt", "splits": ["train", "test"]}
    after["audio"]["test"]["test.wav"] = "b" * 64
    for row in after["table"]:
        row["o_ccc"] = "0.6"
    reached = {key_of(each.cell) for each in compare(before, after)[1] if each.causes}
    assert reached == {key for key in map(key_of, before["table"]) if key[3] == "test" or key[0] != "base"}


def test_speaker_vectors_reach_what_knows_speakers_by_them_or_by_their_control():
    before, after = make_summary(), make_summary()
    for digest, summary in zip("ab", (before, after), strict=True):
        summary["vectors"] = {
            "xvector": {"model": digest * 64, "head": "c" * 64},
            "ecapa test": {"s1": digest * 64, "s2": "d" * 64},
            "ecapa train": {"s3": "d" * 64},
        }
        config, ablations = summary["provenance"]["config"], summary["provenance"]["ablations"]
        config["speaker_vectors"] = {"xvector": {"permute": None}, "shuffled": {"permute": "xvector"}}
        ablations["mfcc"] = ablations["mfcc"] | {"speaker": "shuffled"}
        ablations["weighted"] = ablations["weighted"] | {"similarity": "ecapa"}
        config["calibration"]["methods"][1]["similarity"] = "ecapa"  # sigma
    for row in after["table"]:
        row["o_ccc"] = "0.6"
    changes, differences = compare(before, after)
    assert [(each.kind, each.where, list(each.items)) for each in changes] == [
        ("vectors", "ecapa test", ["s1"]),
        ("vectors", "xvector", ["model"]),
    ]
    reached = [{key_of(each.cell) for each in differences if number in each.causes} for number in (0, 1)]
    keys = set(map(key_of, before["table"]))
    in_test = {key for key in keys if key[3] == "test" and (key[1] == "sigma" or key[0] == "weighted")}
    assert reached[0] == in_test | {key for key in keys if key[0] == "weighted"}
    assert reached[1] == {key for key in keys if key[0] == "mfcc"}
    del before["vectors"]  # as an earlier version saved it
    assert compare(before, after)[0] == []


def test_pretraining_reaches_what_adapted_encoders_hear():
    before, after = make_summary(), make_summary()
    for epochs, summary in enumerate((before, after), 1):
        config = summary["provenance"]["config"]
        config["encoders"]["two"] |= {"adaptation": "papt", "splits": ["train"]}
        config |= {"pretraining": {"epochs": epochs}, "pseudo_labels": {"mfcc": {"clusters": 10 * epochs}}}
    changes = compare(before, after)[0]
    assert {each.where: each.ablations for each in changes} == {
        "pretraining.epochs": {"mfcc"},
        "pseudo_labels.mfcc.clusters": {"mfcc"},
    }


@pytest.mark.parametrize(("key", "reached"), [("random_seed", {"mu"}), ("alpha", {"sigma"}), ("k", {"mu", "sigma"})])
def test_options_of_calibration_reach_the_methods_that_have_a_use_for_them(key, reached):
    before, after = make_summary(), make_summary()
    for value, summary in enumerate((before, after)):
        calibration = summary["provenance"]["config"]["calibration"]
        mu, sigma = calibration["methods"]
        calibration |= {key: value, "methods": [mu | {"neighbours": "random"}, sigma | {"shrinkage": True}]}
    (change,) = compare(before, after)[0]
    assert change.calibrations == reached


def test_an_encoder_that_was_replaced_reaches_what_it_was_replaced_in():
    before, after = make_summary(), make_summary()
    after["provenance"]["ablations"]["mfcc"]["encoder"] = "three"
    after["encoders"] = {"one": "e" * 64, "three": "d" * 64}
    changes = compare(before, after)[0]
    assert {(each.kind, each.where): each.ablations for each in changes} == {
        ("encoder", "three"): {"mfcc"},
        ("encoder", "two"): {"mfcc"},
        ("config", "ablations.mfcc.encoder"): {"mfcc"},
    }


def test_a_change_of_the_baseline_reaches_the_deltas_of_all_uncalibrated_rows():
    before, after = make_summary(), make_summary()
    after["encoders"]["one"] = "0" * 64  # of base and weighted
    for row in after["table"]:
        row["delta_a_ccc"] = "0.1"
    differences = compare(before, after)[1]
    lost = {tuple(each.cell.values()) for each in differences if not each.causes}
    assert lost == {key for key in map(key_of, before["table"]) if key[0] == "mfcc" and key[1] != "none"}


@pytest.mark.parametrize(
    "change",
    [
        make((*CONFIG, "corpus", "folder"), "elsewhere"),
        make((*CONFIG, "encoders", "one", "base"), "elsewhere"),
        make((*CONFIG, "evaluation", "shift_calibration"), "sigma"),
        make((*CONFIG, "training", "epochs"), 9),  # every ablation has its own: these did not change
        make((*MADE, "git"), {"commit": "1", "dirty": False}),
    ],
)
def test_what_decides_no_figure_is_no_change(change):
    before, after = make_summary(), make_summary()
    change(after)
    assert compare(before, after) == ([], [])


def test_the_share_of_the_interval_orders_the_cells():
    before, after = make_summary(), make_summary()
    after["table"][0]["o_ccc"] = "0.450000"  # half the half width of 0.1
    after["table"][1]["a_ccc"] = "0.350000"  # a quarter of the half width of 0.2
    after["table"][2] |= {"o_ccc": "0.510000", "a_ccc": "0.320000"}  # a tenth each
    differences = compare(before, after)[1]
    assert [each.cell["split"] for each in differences] == ["validation", "test", "test2"]
    assert [each.share for each in differences] == pytest.approx([0.5, 0.25, 0.1])


def test_cells_and_files_that_only_one_run_has():
    before, after = make_summary(), make_summary()
    gone = before["table"].pop()
    after["audio"]["test"]["new.wav"] = after["audio"]["test"].pop("test.wav")
    changes, differences = compare(before, after)
    assert changes[0].items == {"new.wav": (None, "a" * 64), "test.wav": ("a" * 64, None)}
    assert [tuple(each.cell.values()) for each in differences] == [key_of(gone)]
    assert (differences[0].figures["o_ccc"], differences[0].share) == ((None, 0.5), None)
    text = format_comparison(changes, differences, 36)
    assert "new.wav: only in the second run" in text and "test.wav: only in the first run" in text
    assert "  -      weighted · ceiling of A-CCC (test labels) · valence · test2  none -> 0.5000" in text


def test_cells_that_nothing_accounts_for_are_said():
    before, after = make_summary(), make_summary()
    after["table"][0]["a_ccc"] = "0.310000"
    text = format_comparison(*compare(before, after), 36)
    assert text.startswith("No input differs\n\n1 of 36 cells differ\n")
    assert "1 cells differ though no input does" in text
    assert "base · none · valence · validation" in text.splitlines()[-1]


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: is neither a results folder nor a saved summary"):
        read_summary(tmp_path / "nowhere")
    with pytest.raises(DataError, match="ablation_table.csv: is not there; make it with: snakemake"):
        read_summary(tmp_path)
    for text in ('{"a": 1}', "corpus: {}"):  # a config, say: nothing to delete
        (tmp_path / "x").write_text(text)
        with pytest.raises(DataError, match="x: is no summary; make one of a results folder with --save"):
            read_summary(tmp_path / "x")


def test_the_script(tmp_path):
    before, after = make_summary(), make_summary()
    after["table"][0]["a_ccc"] = "0.310000"
    after["provenance"]["packages"] = {"numpy": "2.1", "torch": "2.1"}
    for name, summary in {"a": before, "b": after}.items():
        write_json(tmp_path / f"{name}.json", summary)

    def run(*arguments):
        command = [sys.executable, SCRIPT, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert (
        "packages: 1 differ; can account for 1 of the cells below\n     numpy: 2.0 -> 2.1"
        in run("a.json", "b.json").stdout
    )
    described = json.loads(run("a.json", "b.json", "--json").stdout)
    assert (len(described["changes"]), described["cells"][0]["causes"]) == (1, [0])
    assert run("a.json", "--save", "c.json").returncode == 0
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "a.json").read_bytes()
    assert "expected two RUNs" in run("a.json").stderr


def change(*path, value):
    return pytest.param(path, value, id=f"{'.'.join(map(str, path))} = {value}"[:60])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        change("provenance", value=[]),
        change("provenance", "config", value={}),
        change("provenance", "config", "seeds", value=["1"]),
        change("provenance", "config", "encoders", value={"one": 1}),
        change("provenance", "config", "encoders", "one", "splits", value=3),
        change("provenance", "config", "calibration", "methods", value=[1]),
        change("provenance", "ablations", "base", value="x"),
        change("provenance", "code", value={"a.py": 3}),
        change("provenance", "packages", value=None),
        change("audio", "train", value=[1]),
        change("audio", "train", "train.wav", value=None),
        change("encoders", value=["one"]),
        change("vectors", value={"ecapa test": {"s": 1}}),
        change("table", value={}),
        change("table", 0, value="row"),
        change("table", 0, "a_ccc", value="nought"),
        change("table", 0, "a_ccc_low", value="0x1"),
        change("table", 0, "split", value=None),
    ],
)
def test_a_summary_that_no_run_wrote_is_refused(tmp_path, path, value):
    summary = make_summary()
    make(path, value)(summary)
    write_json(tmp_path / "a.json", summary)
    with pytest.raises(DataError, match="a.json: is no summary; make one of a results folder with --save"):
        read_summary(tmp_path / "a.json")


def test_a_comparison_is_clean_text(tmp_path):
    before, after = make_summary(), make_summary()
    after["audio"]["train"]["\x1b[2J\x9b.wav"] = "\u202e"
    for name, summary in {"a": before, "b": after}.items():
        write_json(tmp_path / f"{name}.json", summary)
    done = subprocess.run([sys.executable, SCRIPT, "a.json", "b.json"], cwd=tmp_path, capture_output=True, text=True)
    assert r"\x1b[2J\x9b.wav" in done.stdout and done.stdout.replace("\n", "").isprintable()
