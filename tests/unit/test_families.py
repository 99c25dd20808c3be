"""Every family of encoders against transformers, one utterance at a time: embedding, loading, training."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_hubert import LARGE, PRE_NORM, TINY, compare, reference, speech_like
from transformers import Wav2Vec2FeatureExtractor

from ser.encoders import engine, pretrained
from ser.encoders.engine import Encoder
from ser.encoders.past import Past
from ser.encoders.positions import attend, attend_by_head, spread_bias
from ser.files import DataError, read_json
from ser.formats.encoder_families import FAMILIES

# Few buckets, so that short audio reaches the furthest of them; of data2vec-audio a stack with an even kernel too.
OWN = {"wavlm": {"num_buckets": 32, "max_bucket_distance": 40}, "data2vec-audio": {"num_conv_pos_embeddings": 3}}
STRUCTURES = [
    (kind, shape)
    for kind in FAMILIES
    for shape in ({}, {"conv_pos_kernel_size": 6} if kind == "data2vec-audio" else PRE_NORM)
] + [("wav2vec2", PRE_NORM | {"adapter_attn_dim": 8}), ("hubert", {"conv_pos_batch_norm": True})]  # the first: MMS


def name_structure(value):
    if "adapter_attn_dim" in value:
        return "mms"
    return value if isinstance(value, str) else "large" if "do_stable_layer_norm" in value else str(value or "base")


def make_model(kind, head="Model", **config):
    """A model of a family, every parameter moved: norms, biases and gates start as 1 and 0, a mix-up would not show."""
    torch.manual_seed(0)
    name = FAMILIES[kind]
    model = getattr(transformers, f"{name}{head}")(getattr(transformers, f"{name}Config")(**config)).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 or "norm" in name or "original0" in name or "gru_rel_pos_const" in name:
            parameter.data.mul_(1 + 0.3 * torch.rand_like(parameter)).add_(0.1 * torch.randn_like(parameter))
        if "gru_rel_pos_linear" in name or "rel_attn_embed" in name:
            parameter.data.normal_()
    for name, buffer in model.named_buffers():
        if "running_" in name:
            buffer.add_(0.3 * torch.rand_like(buffer))
    return model


def make(folder, kind, **config):
    model, extractor = make_model(kind, **config), Wav2Vec2FeatureExtractor(do_normalize=True)
    pretrained.save(model, extractor, folder, Past())
    return extractor, model


@pytest.mark.parametrize(("kind", "shape"), STRUCTURES, ids=name_structure)
def test_every_family_agrees_with_transformers(tmp_path, kind, shape):
    models = make(tmp_path, kind, **TINY | OWN.get(kind, {}) | shape)
    assert compare(tmp_path, models, [16_000, 400, 719, 30_001], layer=3) < 2e-5  # tiny: few roundings


# 1e-4: the bound. Their own default positions, buckets and stacks, which tiny shapes do not have.
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (kind, shape)
        for kind in FAMILIES
        for shape in ({}, {"hidden_size": 1024} if kind == "data2vec-audio" else LARGE)
        if kind != "hubert"
    ],
    ids=name_structure,
)
@pytest.mark.parametrize(
    "layers", [pytest.param(2, marks=pytest.mark.long), pytest.param(None, marks=pytest.mark.slow)], ids=["2", "all"]
)
def test_true_shapes_agree_with_transformers(tmp_path, kind, shape, layers):
    large = shape.get("hidden_size") == 1024
    sizes = {"num_attention_heads": 16, "intermediate_size": 4096} if large else {}
    models = make(tmp_path, kind, **shape | sizes | {"num_hidden_layers": layers or (24 if large else 12)})
    worst = compare(tmp_path, models, [80_000, 9_123], layer=1)
    print(f"{kind}, {'large' if large else 'base'}, {layers or 'all'} layers: {worst:.1e}")
    assert worst < 1e-4


def test_distances_fall_into_wavlm_s_buckets_whatever_the_length():
    """Published checkpoints have 320 buckets up to 800 frames; a window of long audio is of 4,000."""
    attention = make_model("wavlm", **TINY).encoder.layers[0].attention
    got = spread_bias(attention.rel_attn_embed.weight, 4000, 800)
    for frames in (1, 2, 161, 4000):
        own = spread_bias(attention.rel_attn_embed.weight, frames, 800)
        assert torch.equal(own, got[:, 4000 - frames : 3999 + frames])
    distances = torch.arange(-3999, 4000)
    expected = attention.rel_attn_embed(attention._relative_positions_bucket(distances)).T
    assert torch.equal(got, expected)


def test_a_bias_in_parts_is_that_of_the_whole(tmp_path, monkeypatch):
    """Queries go in parts where a bias for all of them would take much memory."""
    models = make(tmp_path, "wavlm", **TINY | OWN["wavlm"])
    monkeypatch.setattr("ser.encoders.positions.BIAS_NUMBERS", 4 * 49 * 10)
    assert compare(tmp_path, models, [16_000, 400], layer=2) < 2e-5


@pytest.mark.parametrize("biased", [False, True])
def test_attention_by_head_is_attention(biased):
    q, k, v = torch.randn(3, 4, 37, 8, generator=torch.Generator().manual_seed(0))
    gates, bias = torch.rand(4, 37), spread_bias(torch.randn(32, 4), 37, 40) if biased else None
    expected = (
        attend(q[None], k[None], v[None], gates[None], bias)
        if biased
        else torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None])
    )
    torch.testing.assert_close(attend_by_head(q, k, v, gates, bias), expected[0])
    rounded = attend_by_head(q.bfloat16(), k.bfloat16(), v.bfloat16(), gates, bias)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), expected[0], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["wavlm", "data2vec-audio"])
def test_long_audio_goes_through_in_windows(tmp_path, monkeypatch, kind):
    """As HuBERT's: a window misses what lies outside it, and layer 0 misses nothing but the convolutions' reach."""
    models = make(tmp_path, kind, **TINY | OWN[kind])
    (wave,) = speech_like(320 * 470)
    expected = reference(*models, wave)
    for name, value in {"WHOLE": 180, "INNER": 100, "CONTEXT": 40}.items():
        monkeypatch.setattr(engine, name, value)
    states = Encoder(tmp_path, "cpu", 1).hidden_states(wave).numpy()
    assert states.shape == expected.shape
    np.testing.assert_allclose(states[0], expected[0], atol=2e-5)
    assert np.abs(states - expected).mean() < 0.05 * expected.std()


@pytest.mark.parametrize("kind", FAMILIES)
def test_hidden_states_are_those_of_transformers_with_any_head(tmp_path, kind):
    """What a speaker model's head reads: the encoder under a prefix, the head's own weights beside it."""
    head = "ForCTC" if kind in ("hubert", "unispeech") else "ForXVector"
    model = make_model(kind, head, **TINY | OWN.get(kind, {}))
    model.save_pretrained(tmp_path / "base")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "base")
    pretrained.prepare(str(tmp_path / "base"), None, tmp_path / "out")
    (wave,) = speech_like(16_000)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = reference(extractor, model.base_model, wave)
    np.testing.assert_allclose(Encoder(tmp_path / "out", "cpu", 1).hidden_states(wave), expected, atol=2e-5)
    card = read_json(tmp_path / "out/card.json")
    own = set(model.base_model.state_dict())
    rest = {name.split(".")[0] for name in model.state_dict() if name.partition(".")[2] not in own}
    assert rest and [name.split(" (")[0] for name in card["not_used"]] == sorted(rest)
    assert card["family"] == kind and card["layerdrop"] == 0
    assert card["masking"].startswith("off in training (the checkpoint's configuration has mask_time_prob 0.05")
    config = read_json(tmp_path / "out/config.json")
    assert (config["layerdrop"], config["apply_spec_augment"]) == (0, False)


def test_an_emotion_model_is_taken_without_its_head(tmp_path):
    """The layout of audEERING's dimensional model: old spelling of weight norm, a head of a class of its own."""
    model = make_model("wav2vec2", **TINY | PRE_NORM)
    state = {f"wav2vec2.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    for old, new in ("weight_g", "original0"), ("weight_v", "original1"):
        name = "wav2vec2.encoder.pos_conv_embed.conv"
        state[f"{name}.{old}"] = state.pop(f"{name}.parametrizations.weight.{new}")
    state |= {f"classifier.{name}.weight": torch.ones(3, 48) for name in ("dense", "out_proj")}
    (tmp_path / "base").mkdir()
    save_file(state, tmp_path / "base/model.safetensors", {"format": "pt"})
    config = model.config.to_dict() | {"architectures": ["Wav2Vec2ForSpeechClassification"], "mask_time_prob": 0.0}
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    pretrained.prepare(str(tmp_path / "base"), None, tmp_path / "out")
    card = read_json(tmp_path / "out/card.json")
    assert card["not_used"] == ["classifier (2 tensors)"]
    got, info = transformers.Wav2Vec2Model.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(got.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("wavlm", "encoder.layers.0.attention.rel_attn_embed.weight"),
        ("wavlm", "encoder.layers.1.attention.gru_rel_pos_const"),
        ("data2vec-audio", "encoder.pos_conv_embed.layers.2.conv.bias"),
        ("wav2vec2", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    ],
)
def test_a_part_of_a_family_s_own_that_is_missing_is_not_made_up(tmp_path, kind, name):
    make_model(kind, **TINY | OWN.get(kind, {})).save_pretrained(tmp_path / "base")
    state = load_file(tmp_path / "base/model.safetensors")
    del state[name]
    save_file(state, tmp_path / "base/model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=f"weight {name} is missing"):
        pretrained.prepare(str(tmp_path / "base"), None, tmp_path / "out")
