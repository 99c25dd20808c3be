"""An encoder's config: what decides it is checked by key and value, the rest is left out."""

import pytest
import torch
from made_encoder import edit, make, outputs, refuse
from transformers import BertConfig, HubertModel

from ser.encoders import pretrained
from ser.files import read_json


@pytest.fixture
def base(tmp_path):
    make(tmp_path / "base")
    return tmp_path / "base"


def test_another_model_is_refused(base, tmp_path):
    BertConfig().save_pretrained(base)
    refuse(
        base,
        tmp_path,
        "config.json: model_type is 'bert', which takes no audio, expected one of hubert, wav2vec2, wavlm",
    )


@pytest.mark.parametrize(
    "values",
    [
        {"transformers_weights": "../outside.safetensors"},
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel"},
        {"num_labels": 10**9},
        {"quantization_config": {"quant_method": "awq"}},
        {"fusion_config": {"x": 1}},
        {"vocab_size": -1, "classifier_proj_size": 10**12},
    ],
    ids=lambda values: next(iter(values)),
)
def test_what_does_not_decide_an_encoder_is_left_out_of_its_config(base, tmp_path, values):
    expected = outputs(HubertModel.from_pretrained(base))
    edit(base / "config.json", **values)
    pretrained.prepare(str(base), None, tmp_path / "out")
    assert torch.equal(outputs(HubertModel.from_pretrained(tmp_path / "out")), expected)
    written = read_json(tmp_path / "out/config.json")
    assert all(written.get(key) != value for key, value in values.items())


def test_another_width_is_refused(base, tmp_path):
    edit(base / "config.json", hidden_size=64)
    refuse(base, tmp_path, r"weight .* has shape \(.*32.*\), expected \(.*64.*\) by config.json")


@pytest.mark.parametrize(
    ("file", "values", "match"),
    [
        ("preprocessor_config.json", {"sampling_rate": 8000}, "sampling_rate is 8000, expected 16000"),
        ("preprocessor_config.json", {"feature_size": 80}, "feature_size is 80, expected 1"),
        ("preprocessor_config.json", {"do_normalize": "yes"}, "do_normalize is 'yes', expected true or false"),
        ("config.json", {"hidden_act": "relu"}, "hidden_act is 'relu', expected 'gelu'"),
        ("config.json", {"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "conv_stride multiplies to 160, expected 320"),
        ("config.json", {"conv_stride": [5, 2]}, "conv_dim, conv_stride and conv_kernel differ in length"),
        ("config.json", {"hidden_size": "wide"}, "hidden_size is 'wide', expected an integer from 1 to 16384"),
        ("config.json", {"hidden_size": 33}, "hidden_size 33 is no multiple of num_attention_heads"),
        ("config.json", {"feat_extract_norm": "none"}, "feat_extract_norm is 'none', expected 'group' or 'layer'"),
        ("config.json", {"num_hidden_layers": -1}, "num_hidden_layers is '-1', expected an integer from 1 to 256"),
        ("config.json", {"num_hidden_layers": 10**7}, "num_hidden_layers is '10000000', expected an integer"),
        ("config.json", {"num_hidden_layers": True}, "num_hidden_layers is 'True', expected an integer"),
        ("config.json", {"hidden_size": 16384, "num_hidden_layers": 256}, "a model of .* parameters, expected 4e.09"),
        ("config.json", {"conv_dim": [16] * 10**5}, "conv_dim is .*, expected a list of integers"),
        ("config.json", {"conv_kernel": [0] * 7}, "conv_kernel is .*, expected a list of integers"),
        ("config.json", {"num_conv_pos_embedding_groups": 5}, "no multiple of num_conv_pos_embedding_groups"),
        ("config.json", {"layer_norm_eps": float("nan")}, "layer_norm_eps is 'nan', expected a number above 0"),
        ("config.json", {"layerdrop": "0.1"}, "layerdrop is '0.1', expected a number from 0 to 1"),
        ("config.json", {"conv_bias": 1}, "conv_bias is '1', expected true or false"),
        (
            "card.json",
            {"adaptation": "<script>"},
            "card.json: adaptation is '<script>', expected one of none, tapt, papt",
        ),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(base, tmp_path, file, values, match):
    edit(base / file, **values)
    refuse(base, tmp_path, match)


def test_a_configuration_that_is_no_json_is_refused(base, tmp_path):
    (base / "config.json").write_text("{")
    refuse(base, tmp_path, "config.json: is not JSON")
