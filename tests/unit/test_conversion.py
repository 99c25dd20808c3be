"""Numbers that YAML or Snakemake's --config pass on as text are numbers, where the schema wants these."""

from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_config

from ser.config.schema import check
from ser.files import DataError

SCHEMA = Path(__file__).parents[2] / "rules" / "config.schema.yaml"
SMALLEST = {
    "corpus": {"folder": "x"},
    "encoders": {"e": {"base": "b"}},
    "ablations": [{"name": "a"}],
    "baseline": "a",
}


def read(text):
    return check(SMALLEST | yaml.safe_load(text), SCHEMA)


def test_a_number_with_an_exponent_is_one():
    config = read("training: {learning_rate: 1e-3, epochs: 2e1}\npretraining: {learning_rate: 5E-5, clip: 1.0}")
    assert config["training"]["learning_rate"] == 0.001 and config["pretraining"]["learning_rate"] == 5e-5
    assert config["training"]["epochs"] == 20 and isinstance(config["training"]["epochs"], int)


def test_values_inside_of_an_option_of_snakemake_are_what_they_look_like():
    given = ["seeds=[1,2]", "training={epochs: 2, learning_rate: 1e-3}", "training_memory_gb=2", "heads={mlp: [8, 4]}"]
    given += ["encoders={e: {base: '123', revision: null, frames_layer: -2}}", "tuning={dropout: [0.1], mlp: [[8]]}"]
    given += ["calibration={methods: [{name: m, gate: True}], alpha: [0, .5]}", "finetuning={head_learning_rate: null}"]
    given += ["pretraining={freeze_front: false}", "evaluation={primary: '1'}"]
    given += ["ablations=[{name: a, layer: -1}, {name: b, layer: weighted, finetune: {rank: 4, method: lora}}]"]
    config = check(SMALLEST | parse_config(given), SCHEMA)
    assert config["seeds"] == [1, 2] and config["training"]["epochs"] == 2 and config["heads"]["mlp"] == [8, 4]
    encoder = config["encoders"]["e"]
    assert (encoder["base"], encoder["revision"], encoder["frames_layer"]) == ("123", None, -2)
    assert config["tuning"] == {"dropout": [0.1], "mlp": [[8]]}
    assert config["calibration"]["methods"][0]["gate"] is True and config["calibration"]["alpha"] == [0, 0.5]
    assert config["finetuning"]["head_learning_rate"] is None and config["pretraining"]["freeze_front"] is False
    assert [each["layer"] for each in config["ablations"]] == [-1, "weighted"]
    assert config["ablations"][1]["finetune"]["rank"] == 4 and config["evaluation"]["primary"] == "1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {learning_rate: 1e-3x}", "training.learning_rate: '1e-3x' is not of type 'number'"),
        ("training: {learning_rate: '0,001'}", "training.learning_rate: '0,001' is not of type 'number'"),
        ("training: {epochs: 1.5e0}", "training.epochs: 1.5 is not of type 'integer'"),
        ("training: {learning_rate: 1e999}", "training.learning_rate: inf is not a finite number"),
        ("training: {learning_rate: nan}", "training.learning_rate: 'nan' is not of type 'number'"),
        ("seeds: [4294967296.0]", r"seeds\[0\]: 4294967296 is beyond 4294967295"),
        ("seeds: ['4294967296']", r"seeds\[0\]: 4294967296 is beyond 4294967295"),
        (f"seeds: ['{'9' * 5000}']", r"seeds\[0\]: '9+.*"),
        ("seeds: [1, '1']", r"seeds: \[1, 1\] has non-unique elements"),
        ("pretraining: {freeze_front: 'yes'}", "pretraining.freeze_front: 'yes' is not of type 'boolean'"),
    ],
)
def test_what_is_no_number_is_named(text, message):
    with pytest.raises(DataError, match=f"config: {message}"):
        read(text)


def test_what_was_given_stays_as_it_is():
    given = {"training": {"epochs": "2"}}
    check(SMALLEST | given, SCHEMA)
    assert given == {"training": {"epochs": "2"}}
