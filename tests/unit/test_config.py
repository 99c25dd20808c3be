import os
from pathlib import Path

import pytest
import yaml

from ser.config.ablations import resolve_ablations
from ser.config.encoders import find_ancestry, resolve_encoders
from ser.config.plain import check_plain
from ser.config.schema import check
from ser.files import DataError

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "rules" / "config.schema.yaml"
SMALLEST = {
    "corpus": {"folder": "x"},
    "encoders": {"e": {"base": "b"}},
    "ablations": [{"name": "a"}],
    "baseline": "a",
}


def described_keys(schema, path=""):
    for key, part in schema.get("properties", {}).items():
        yield f"{path}.{key}", part
        yield from described_keys(part, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from described_keys(schema[key], f"{path}[]")


def test_the_demo_config_is_valid_and_changes_nothing_unsaid():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    checked = check(config, SCHEMA)
    assert set(checked) >= set(config)
    resolve_ablations(checked)


def test_defaults_are_filled_in_at_every_depth():
    config = check(SMALLEST, SCHEMA)
    assert config["corpus"]["label_range"] == [1, 7]
    assert config["encoders"]["e"]["dtype"] == "float16"
    assert config["ablations"][0]["fusion"] == "none"
    assert config["training"]["loss"] == "ccc"
    assert config["heads"]["transformer"]["width"] == 128
    assert "dtype" not in SMALLEST["encoders"]["e"], "the given config must stay as it is"


def test_every_key_has_a_description():
    schema = yaml.safe_load(SCHEMA.read_text())
    parts, described_there = [*described_keys(schema)], set()
    for name, definition in schema["$defs"].items():
        parts += described_keys(definition, f".{name}")
        described_there |= {f".{name}.{key}" for key in definition["properties"]}
    assert not [
        path
        for path, part in parts
        if "description" not in part and not (path in described_there and set(part) == {"default"})
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [1]}, r"there is no key 'sedes'; did you mean 'seeds'\?"),
        ({"corpus": {"folder": "x", "zzz": 1}}, r"config: corpus: there is no key 'zzz'; allowed are layout, folder"),
        ({"seeds": "1"}, r"config: seeds: '1' is not of type 'array'"),
        ({"seeds": [1.5]}, r"config: seeds\[0\]: 1.5 is not of type 'integer'"),
        ({"corpus": {}}, r"config: corpus: needs the key 'folder'"),
        ({"corpus": {"folder": "x", "layout": "wav"}}, r"corpus.layout: 'wav' is not one of \['csv', 'msp_podcast'"),
        ({"training": {"patience": 0}}, r"config: training.patience: 0 is less than the minimum of 1"),
        ({"training": {"patient": 3}}, r"config: training: there is no key 'patient'; did you mean 'patience'\?"),
        ({"encoders": {"a/b": {"base": "x"}}}, r"config: encoders: 'a/b' does not match"),
        ({"ablations": [{"name": "../x"}]}, r"config: ablations\[0\].name: '../x' does not match"),
        ({"ablations": []}, r"config: ablations: \[\] should be non-empty"),
        ({"ablations": [{"name": "a\n"}]}, r"config: ablations\[0\].name: 'a\\n' has the character U\+000A"),
        ({"corpus": {"folder": "x", "test_splits": ["test\n"]}}, r"corpus.test_splits\[0\]: 'test\\n' has the char"),
        ({"encoders": {"e\n": {"base": "x"}}}, r"config: encoders: 'e\\n' is no key"),
        ({1: 2}, r"config: the config: '1' is no key"),
        ({"corpus": {"folder": "/data/{x}"}}, r"config: corpus.folder: '/data/\{x\}' has a brace"),
        ({"encoders": {"e": {"base": "a/{b}"}}}, r"config: encoders.e.base: 'a/\{b\}' has a brace"),
        ({"pseudo_labels": {"p": {"centroids": "{a}"}}}, r"config: pseudo_labels.p.centroids: '\{a\}' has a brace"),
        ({"corpus": {"folder": "x\x9b"}}, r"config: corpus.folder: 'x\\x9b' has the character U\+009B"),
        ({"audio": {"max_seconds": float("inf")}}, r"config: audio.max_seconds: inf is not a finite number"),
        ({"training": {"dropout": float("nan")}}, r"config: training.dropout: nan is not a finite number"),
        ({"seeds": [2**32]}, r"config: seeds\[0\]: 4294967296 is beyond 4294967295"),
        ({"training": {"epochs": 10**30}}, r"config: training.epochs: 1000000000000000000000000000000 is beyond"),
        ({"training": {"epochs": 10**5000}}, r"config: training.epochs: a number is beyond"),
        ({"training": {"epochs": 10**6}}, r"config: training.epochs: 1000000 is greater than the maximum of 100000"),
        ({"heads": {"mlp": [10**7]}}, r"config: heads.mlp\[0\]: 10000000 is greater than the maximum of 16384"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(DataError, match=message):
        check(SMALLEST | change, SCHEMA)


def test_the_largest_seed_is_one():
    assert check(SMALLEST | {"seeds": [2**32 - 1]}, SCHEMA)["seeds"] == [2**32 - 1]


LAUGHS = "\n".join([f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9) if n else 1}]" for n in range(10)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "has more than 100,000 values, those of YAML's aliases included"),
        ("a: " + "[" * 60 + "]" * 60, "is nested more than 50 deep"),
        ("a: &a [*a]", "is nested more than 50 deep|is neither JSON nor plain YAML"),
        ("__use_yte__: true", "has the key '__use_yte__', with which Snakemake runs"),
        ('"__use\\x5fyte__": false', "has the key '__use_yte__'"),
        ("a: !!python/name:os.system x", "is neither JSON nor plain YAML"),
        ("a: [", "is neither JSON nor plain YAML"),
        (b"\xff\xfe", "cannot be read as text in UTF-8"),
        ("#" * 10_000_001, "is larger than a config can be"),
    ],
    ids=["laughs", "deep", "in itself", "YTE", "YTE, escaped", "tag", "no YAML", "UTF-16", "large"],
)
def test_a_config_that_is_no_data_is_refused(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=f"config.yaml: {message.replace('|', '|.*')}"):
        check_plain(path)


def test_a_pipe_is_no_config(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(DataError, match="config.yaml: is a folder, a device or a pipe"):
        check_plain(tmp_path / "config.yaml")


@pytest.mark.parametrize("text", ["{}", '{"__use_yte__": true}', "corpus: {folder: x}", ""])
def test_plain_configs_pass(tmp_path, text):
    """JSON is not handed to YTE; a key that is none is found with the others."""
    (tmp_path / "config.yaml").write_text(text)
    check_plain(tmp_path / "config.yaml")
    check_plain(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("ablations", "message"),
    [
        ([{"name": "a"}, {"name": "a"}], r"ablations: 'a' is there twice"),
        ([{"name": "a", "encoder": "f"}], r"'a': encoder 'f' is not under encoders: e"),
        ([{"name": "a", "speaker": "mfcc"}], r"'a': speaker is 'mfcc' but fusion is 'none'"),
        ([{"name": "a", "fusion": "sum"}], r"'a': speaker is 'none' but fusion is 'sum'"),
        ([{"name": "a", "head": "transformer", "layer": 3}], r"'a': a transformer head reads the frames of"),
        (
            [{"name": "a", "attended": 5}],
            r"'a': attended is of fusion: attention, but fusion is none; leave out attended",
        ),
        (
            [{"name": "a", "neighbours": 10}],
            r"'a': neighbours is of weighting: similar_speakers, but weighting is none",
        ),
        ([{"name": "a", "strength": 2}], r"'a': strength is of weighting: similar_speakers"),
        ([{"name": "a", "similarity": "mfcc"}], r"'a': similarity is of weighting: similar_speakers"),
        ([{"name": "a", "fusion": "attention", "attended": 0, "permuted": True}], r"'a': permuted .* attended is 0"),
        ([{"name": "b"}], r"baseline: 'a' is none of the ablations: b"),
    ],
)
def test_senseless_ablations_are_named(ablations, message):
    with pytest.raises(DataError, match=message):
        resolve_ablations(check(SMALLEST | {"ablations": ablations}, SCHEMA))


def test_what_an_ablation_leaves_out_of_other_speakers_and_utterances_has_a_value():
    others = [{"name": "w", "weighting": "similar_speakers"}, {"name": "n", "fusion": "attention"}]
    others += [{"name": "p", "fusion": "attention", "attended": 0, "normalise": "speaker", "permuted": True}]
    made = resolve_ablations(check(SMALLEST | {"ablations": [{"name": "a"}, *others]}, SCHEMA))
    assert (made["w"].similarity, made["w"].neighbours, made["w"].strength) == ("mfcc", 10, 1)
    assert [made[name].attended for name in ("a", "n", "p")] == [None, 5, 0]


def test_an_ablation_can_change_its_training():
    config = check(SMALLEST | {"ablations": [{"name": "a", "training": {"epochs": 3}}]}, SCHEMA)
    training = resolve_ablations(config)["a"].training
    assert training == config["training"] | {"epochs": 3}


def resolve(**encoders):
    given = {"corpus": {"folder": "c"}, "encoders": encoders, "ablations": [{"name": "a"}], "baseline": "a"}
    return resolve_encoders(check(given, SCHEMA))


def test_an_encoder_that_is_not_adapted_keeps_its_own_options_alone():
    assert resolve(e={"base": "x"})["e"].keys() == {
        *("base", "revision", "frames_layer", "dtype", "device", "precision", "threads", "adaptation", "trained_on")
    }


def test_what_labels_a_base_has_seen_is_true_of_all_that_is_made_of_it():
    tapt = {"base": "x", "adaptation": "tapt"}
    e, other = {"base": "x", "trained_on": "MSP"}, {"base": "x", "revision": "1"}
    encoders = resolve(tapt=tapt, e=e, own=tapt | {"trained_on": "A, B"}, v=other)
    assert {name: each["trained_on"] for name, each in encoders.items()} == (
        {"tapt": "MSP", "e": "MSP", "own": "A, B", "v": None}
    )


def test_adapted_encoders_have_their_settings_over_the_common_ones():
    encoders = resolve(e={"base": "x"}, p={"base": "x", "adaptation": "papt", "pretraining": {"epochs": 3}})
    assert encoders["p"]["pretraining"]["epochs"] == 3 and encoders["p"]["pretraining"]["batch_seconds"] == 87.5
    assert (encoders["p"]["similarity"], encoders["p"]["pseudo_labels"]) == ("e", "mfcc")
    assert (encoders["p"]["position"], encoders["p"]["splits"]) == ("last", ["train"])


@pytest.mark.parametrize(
    "encoders, message",
    [
        ({"p": {"base": "x", "adaptation": "papt"}}, "encoders.p: .* without papt; add one"),
        ({"e": {"base": "x", "pretraining": {"epochs": 3}}}, "encoders.e: pretraining has no meaning"),
        ({"t": {"base": "x", "adaptation": "tapt", "splits": ["tset"]}}, "encoders.t: splits is 'tset'"),
        ({"t": {"base": "x", "adaptation": "tapt", "pseudo_labels": "kmeans"}}, "pseudo_labels is 'kmeans'"),
        (
            {"e": {"base": "x"}, "p": {"base": "x", "adaptation": "papt", "similarity": "p"}},
            "encoders.p: similarity is 'p', expected one of e",
        ),
    ],
)
def test_adaptation_that_makes_no_sense_is_refused(encoders, message):
    with pytest.raises(DataError, match=message):
        resolve(**encoders)


def learn(pseudo_labels, **encoders):
    given = {"corpus": {"folder": "c"}, "encoders": encoders, "ablations": [{"name": "a"}], "baseline": "a"}
    return resolve_encoders(check(given | {"pseudo_labels": pseudo_labels}, SCHEMA))


def test_an_encoder_that_learns_from_a_layer_descends_from_that_layers_encoder():
    labels = {"mfcc": {}, "second": {"features": "layer", "encoder": "one"}}
    two = {"base": "x", "adaptation": "tapt", "pseudo_labels": "second"}
    encoders = learn(labels, zero={"base": "x"}, one={"base": "x", "adaptation": "tapt"}, two=two)
    labels = {"mfcc": {"features": "mfcc"}, "second": labels["second"]}
    ancestries = {name: find_ancestry(name, encoders, labels) for name in encoders}
    assert ancestries == {"zero": ["zero"], "one": ["one"], "two": ["two", "one"]}


@pytest.mark.parametrize(
    "labels, message",
    [
        ({"features": "layer"}, "pseudo_labels.l: encoder is None, expected one of e, t"),
        ({"features": "layer", "centroids": "x"}, "pseudo_labels.l: encoder is None, expected one of e, t"),
        ({"features": "layer", "encoder": "p"}, "pseudo_labels.l: encoder is 'p', expected one of e, t"),
        ({"features": "layer", "encoder": "t"}, "encoders.t: would have to learn from itself: .* of a layer of t"),
    ],
)
def test_a_layer_to_learn_from_is_one_that_can_be_had(labels, message):
    adapted = {"base": "x", "adaptation": "tapt"}
    with pytest.raises(DataError, match=message):
        learn({"l": labels}, e={"base": "x"}, t=adapted, p=adapted | {"adaptation": "papt"})
