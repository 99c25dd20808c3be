"""Every family of encoders in training: what is trained moves, and what is saved is transformers' own again."""

import numpy as np
import pytest
import torch
import transformers
from test_families import OWN, STRUCTURES, make_model, name_structure
from test_hubert import TINY, speech_like
from transformers import Wav2Vec2FeatureExtractor

from ser.adaptation.masked_prediction import MaskedPrediction
from ser.encoders import pretrained
from ser.encoders.engine import Encoder
from ser.encoders.past import Past
from ser.finetuning.joint_model import JointModel
from ser.finetuning.methods import merge_adapters
from ser.formats.encoder_families import FAMILIES

LENGTHS = (8_000, 5_000, 8_000)
METHODS = [{"method": "whole"}, {"method": "top", "layers": 1}, {"method": "lora", "rank": 2}]
OFF = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout")
# As checkpoints have them: on, and none of it has a part here.
ON = {"layerdrop": 0.9, "mask_time_prob": 0.9, "apply_spec_augment": True}


def make_encoder(kind, shape):
    return make_model(kind, **TINY | OWN.get(kind, {}) | shape | dict.fromkeys(OFF, 0.0) | ON)


def waves():
    return [torch.from_numpy(wave) for wave in speech_like(*LENGTHS)]


def train(model, loss, parameters):
    """Two steps: every tensor that is trained has a gradient and has moved, and nothing else has.

    The second is for what waits for a factor that begins as 0: LoRA's A for B, what lifts speakers' vectors for them. A
    bias of the keys adds the same to all scores of a query, which no softmax tells.
    """
    still = "k_proj.bias"
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.Adam(parameters.values(), 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    for name, tensor in parameters.items():
        assert (tensor.grad is not None and tensor.grad.abs().max() > 0) or name.endswith(still), name
    for name, tensor in model.state_dict().items():
        moved = not torch.equal(tensor, before[name])
        assert moved == (name in parameters) or name.endswith(still), name


def expect_saved(model, kind, folder):
    """What is saved loads in the family's own class: nothing missing, nothing beside it, and it gives what it did.

    The engine gives the same of it.
    """
    pretrained.save(model.eval(), Wav2Vec2FeatureExtractor(do_normalize=False), folder, Past())
    own, info = getattr(transformers, f"{FAMILIES[kind]}Model").from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and type(own) is type(model)
    (wave,) = speech_like(9_000)
    with torch.no_grad():
        expected, given = (m.eval()(torch.from_numpy(wave)[None], output_hidden_states=True) for m in (model, own))
    # the output, [0], comes after a pre-norm shape's last norm
    for one, other in zip((*expected.hidden_states, expected[0]), (*given.hidden_states, given[0]), strict=True):
        torch.testing.assert_close(other, one, atol=1e-6, rtol=0)
    got = Encoder(folder, "cpu", 1).hidden_states(wave)
    np.testing.assert_allclose(got, torch.cat(given.hidden_states), atol=3e-5)  # tiny: few roundings


@pytest.mark.parametrize("settings", METHODS, ids=lambda settings: settings["method"])
@pytest.mark.parametrize(("kind", "shape"), STRUCTURES, ids=name_structure)
def test_fine_tuning_trains_what_it_says(tmp_path, kind, shape, settings):
    encoder = make_encoder(kind, shape)
    torch.manual_seed(1)
    model = JointModel(encoder, torch.nn.Identity(), settings | {"gradient_checkpointing": False}, "last").eval()
    with torch.no_grad():
        features = model.features([model.prepare(wave) for wave in waves()])["features"]
        for got, wave in zip(features, waves(), strict=True):
            if "rank" not in settings:  # transformers' WavLM would go past an adapter
                mean = encoder(wave[None]).last_hidden_state[0].mean(0)
                torch.testing.assert_close(got, mean, atol=2e-5, rtol=0)
    parameters = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    if "rank" in settings:  # A and B of the six matrices of each layer
        assert len(parameters) == 2 * 6 * TINY["num_hidden_layers"]
        assert all(name.endswith((".down", ".up")) for name in parameters)
    weight = torch.randn(features.shape)
    train(model, lambda: (model.features([model.prepare(w) for w in waves()])["features"] * weight).sum(), parameters)
    with torch.no_grad():
        model.eval()
        tuned = model.features([model.prepare(wave) for wave in waves()])["features"]
    assert (tuned - features).abs().max() > 1e-4
    merged = merge_adapters(encoder)
    with torch.no_grad():
        for wave, mean in zip(waves(), tuned, strict=True):
            torch.testing.assert_close(merged(wave[None]).last_hidden_state[0].mean(0), mean, atol=2e-5, rtol=0)
    expect_saved(merged, kind, tmp_path)


@pytest.mark.parametrize(("kind", "shape"), [("wavlm", {}), ("data2vec-audio", {})], ids=name_structure)
def test_gradient_checkpointing_gives_the_same_gradient(kind, shape):
    found = []
    for checkpointing in (False, True):
        encoder = make_encoder(kind, shape)
        settings = METHODS[0] | {"gradient_checkpointing": checkpointing}
        model = JointModel(encoder, torch.nn.Identity(), settings, "last").train()
        model.features([model.prepare(wave) for wave in waves()])["features"].square().sum().backward()
        found.append({name: tensor.grad for name, tensor in encoder.named_parameters() if tensor.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "shape", "speakers"),
    [(*structure, 0) for structure in STRUCTURES] + [("wavlm", {}, 2)],
    ids=lambda value: ["tapt", "", "papt"][value] if isinstance(value, int) else name_structure(value),
)
def test_adaptive_pre_training_trains_everything(tmp_path, kind, shape, speakers):
    """At the start it hears what transformers does, with the masked frames where transformers is told to mask."""
    encoder = make_encoder(kind, shape)
    torch.manual_seed(1)
    model = MaskedPrediction(encoder, 5, speakers, "prefix" if speakers else "last", code_width=8).eval()
    batch = torch.stack([wave for wave in waves() if len(wave) == LENGTHS[0]])
    mask = torch.zeros(2, 24, dtype=torch.bool)
    mask[0, 3:13] = mask[1, 10:20] = True
    with torch.no_grad():
        expected = encoder(batch, mask_time_indices=mask).last_hidden_state
        torch.testing.assert_close(model.outputs(batch, mask), expected, atol=3e-5, rtol=0)
    labels = torch.arange(48).view(2, 24) % 5
    own = torch.tensor([[0], [1]]) if speakers else None
    train(model, lambda: model(batch, mask, labels, own)[0], dict(model.named_parameters()))
    expect_saved(encoder, kind, tmp_path)
