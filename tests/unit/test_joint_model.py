"""The joint model computes what the workflow caches, and merged adapters what they did."""

import numpy as np
import pytest
import torch
from made_joint_model import (
    FAMILIES,
    LAYERS,
    METHODS,
    SETTINGS,
    WIDTH,
    Head,
    learn,
    make_hubert,
    make_model,
    make_waves,
    prepare,
)
from transformers import HubertModel, Wav2Vec2FeatureExtractor

from ser.encoders import pretrained
from ser.encoders.engine import Encoder
from ser.encoders.past import Past
from ser.finetuning.joint_model import JointModel
from ser.finetuning.methods import LowRank, merge_adapters


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("position", [None, "last", "first", "prefix"])
def test_features_are_those_that_the_workflow_will_cache(tmp_path, family, method, position):
    """The engine's, whose arithmetic the tests of embedding hold to transformers'; float32 on both sides."""
    model = make_model(family, method, position=position).eval()
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    pretrained.save(make_hubert(family), extractor, tmp_path, Past(), position=position)
    waves = make_waves()
    vectors = None if position is None else list(np.random.default_rng(5).standard_normal((5, WIDTH), np.float32))
    encoder = Encoder(tmp_path, "cpu", 1)
    outputs = encoder.embed(waves, LAYERS, vectors, output=True)
    layers = np.stack([e.pooled for e in encoder.embed(waves, None, vectors)])
    with torch.no_grad():
        parts = prepare(model, waves, vectors)
        last = model.features(parts)["features"].numpy()
        model.reads = "layers"
        every = model.features(prepare(model, waves, vectors))["features"].numpy()
        model.reads = "frames"
        frames = model.features(parts)
    np.testing.assert_allclose(last, np.stack([e.pooled[0] for e in outputs]), atol=2e-5)
    np.testing.assert_allclose(every, layers, atol=2e-5)
    for row, n, output in zip(frames["features"].numpy(), frames["n_frames"][:, 0], outputs, strict=True):
        assert n == output.n_frames == len(output.frames)
        np.testing.assert_allclose(row[:n], output.frames, atol=5e-5)


def test_the_output_is_that_of_transformers():
    hubert, wave = make_hubert("large"), make_waves(1)[0]
    with torch.no_grad():
        expected = hubert(torch.from_numpy(wave)[None]).last_hidden_state[0].mean(0)
        model = make_model("large").eval()
        found = model.features(prepare(model, [wave]))["features"][0]
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_adapters_predict_what_they_did_and_load_anywhere(tmp_path, family):
    model = make_model(family, "lora")
    labels = torch.from_numpy(np.random.default_rng(1).uniform(1, 7, (5, 2)).astype(np.float32))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    for _ in range(3):
        learn(model, make_waves(), labels, [[0, 1, 2, 3, 4]])
        optimizer.step()
    model.eval()
    with torch.no_grad():
        adapted = model.features(prepare(model, make_waves()))["features"]
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    pretrained.save(merge_adapters(model.hubert), extractor, tmp_path, Past())
    assert not any(isinstance(module, LowRank) for module in model.modules())
    loaded, info = HubertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    plain = make_hubert(family)
    with torch.no_grad():
        for found, wave in zip(adapted, make_waves(), strict=True):
            wave = torch.from_numpy(wave)[None]
            np.testing.assert_allclose(loaded.eval()(wave).last_hidden_state[0].mean(0), found, atol=5e-5)
            assert (plain(wave).last_hidden_state[0].mean(0) - found).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_masked_and_no_layer_is_left_out(method, family):
    """Whatever the checkpoint's config says: without dropout, training mode gives what evaluation gives."""
    hubert = make_hubert(family)
    hubert.config.update({"apply_spec_augment": True, "mask_time_prob": 0.9, "mask_time_length": 10, "layerdrop": 0.9})
    model = JointModel(hubert, Head(), SETTINGS | METHODS[method])
    waves = [*make_waves(3), make_waves(1)[0][:400]]  # one frame: shorter than a masked span would be
    found = []
    for mode in (True, False):
        model.train(mode)
        with torch.no_grad():
            found.append(model.features(prepare(model, waves))["features"])
    assert torch.equal(*found)


def test_what_is_not_trained_has_no_dropout():
    """So it is computed once; the upper layer's own is drawn anew."""
    model = make_model(method="top", dropout=0.5).train()
    waves = make_waves(2)
    first, second = (prepare(model, waves) for _ in range(2))
    assert all(torch.equal(one.x, other.x) for one, other in zip(first, second, strict=True))
    with torch.no_grad():
        assert not torch.equal(model.features(first)["features"], model.features(first)["features"])
