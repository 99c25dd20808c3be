"""Embeddings against transformers run one utterance at a time."""

import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from ser.audio.frames import HOP
from ser.encoders import engine, pretrained
from ser.encoders.engine import Encoder
from ser.encoders.past import Past
from ser.files import DataError

PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
TINY = {
    "conv_dim": [32] * 7,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = PRE_NORM | {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
XLARGE = PRE_NORM | {"hidden_size": 1280, "num_attention_heads": 16, "intermediate_size": 5120}


def make(folder, do_normalize=True, **config):
    """An encoder's folder, and transformers' own pair of feature extractor and model for reference."""
    torch.manual_seed(0)
    model = HubertModel(HubertConfig(**config)).eval()
    for name, parameter in model.named_parameters():  # norms and biases start as 1 and 0: a mix-up would not show
        if "bias" in name or "norm" in name or "original0" in name:
            parameter.data.mul_(1 + 0.3 * torch.rand_like(parameter)).add_(0.05 * torch.randn_like(parameter))
    extractor = Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
    pretrained.save(model, extractor, folder, Past())
    return extractor, model


def reference(extractor, model, wave):
    """The hidden states of one utterance, (layers + 1, frames, width)."""
    values = extractor(wave, sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        return torch.cat(model(values, output_hidden_states=True).hidden_states).numpy()


def speech_like(*lengths, seed=0):
    """Coloured noise with an offset and pauses: normalisation over time sees something to normalise."""
    rng = np.random.default_rng(seed)
    waves = [np.convolve(rng.normal(0, 0.1, n), np.ones(8) / 8, "same") + 0.02 for n in lengths]
    return [(wave * (np.sin(np.arange(len(wave)) / 2000) > -0.5)).astype(np.float32) for wave in waves]


def compare(folder, models, lengths, layer):
    """Largest difference of pooled embeddings and of a layer's frames from the reference, one by one and packed."""
    subject, waves = Encoder(folder, "cpu", 2), speech_like(*lengths)
    one_by_one = [subject.embed([wave], layer)[0] for wave in waves]
    subject.batch_seconds = 2  # as on a GPU: utterances end to end, in batches of more than this
    worst = 0.0
    for wave, *both in zip(waves, one_by_one, subject.embed(waves, layer), strict=True):
        expected = reference(*models, wave)
        for got in both:
            assert got.n_frames == expected.shape[1] and got.pooled.dtype == got.frames.dtype == np.float32
            worst = max(worst, abs(got.pooled - expected.mean(1)).max(), abs(got.frames - expected[layer]).max())
    return worst


# 1e-4: the bound; float32 rounding over tens of layers of numbers up to about 10 stays well below it
@pytest.mark.parametrize(
    "config",
    [
        pytest.param({}, id="base, true size", marks=pytest.mark.long),
        pytest.param(LARGE | {"num_hidden_layers": 2}, id="large, 2 of 24 layers"),
        pytest.param(XLARGE | {"num_hidden_layers": 1}, id="xlarge, 1 of 48 layers"),
        pytest.param(LARGE | {"num_hidden_layers": 24}, id="large, true size", marks=pytest.mark.slow),
    ],
)
def test_true_shapes_agree_with_transformers(tmp_path, config):
    models = make(tmp_path, **config)
    assert compare(tmp_path, models, [17_000, 9_123], layer=1) < 1e-4


@pytest.mark.parametrize(
    "config",
    [
        {},
        PRE_NORM,
        {"conv_bias": True},
        {"do_stable_layer_norm": True},
        {"feat_proj_layer_norm": False},
        {"conv_pos_batch_norm": True},
        {"num_conv_pos_embeddings": 15},
        {"do_normalize": False},
    ],
    ids=str,
)
def test_every_variant_agrees_with_transformers(tmp_path, config):
    models = make(tmp_path, **TINY | config)
    # 400 samples are the shortest that give a frame; 719 and 720 are the two sides of a second one
    assert compare(tmp_path, models, [16_000, 400, 719, 720, 50_001], layer=3) < 1e-5  # tiny: few roundings


def test_without_onednn_agrees_with_transformers(tmp_path, monkeypatch):
    """The operators that a GPU uses, on a CPU."""
    models = make(tmp_path, **TINY)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert compare(tmp_path, models, [16_000, 9_999], layer=3) < 1e-5


def test_on_a_cpu_neither_neighbours_nor_threads_change_a_bit(tmp_path):
    make(tmp_path, **TINY)
    waves = speech_like(16_000, 8_000, 30_000)
    assert [len(batch) for batch in Encoder(tmp_path, "cpu")._batches([10, 20, 30])] == [1, 1, 1]
    expected = [Encoder(tmp_path, "cpu", 2).embed([wave])[0].pooled for wave in waves]
    for threads, order in ((2, [0, 1, 2]), (2, [2, 0, 1]), (1, [1, 2, 0])):
        for i, got in zip(order, Encoder(tmp_path, "cpu", threads).embed([waves[i] for i in order]), strict=True):
            assert np.array_equal(got.pooled, expected[i])


def test_a_gpu_that_is_not_there_is_named(tmp_path, monkeypatch):
    make(tmp_path, **TINY)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DataError, match="device: cuda, but torch .* finds no CUDA device; set cpu or auto"):
        Encoder(tmp_path, "cuda")


def test_frames_are_made_only_where_asked_for(tmp_path):
    make(tmp_path, **TINY)
    (got,) = Encoder(tmp_path, "cpu").embed(speech_like(16_000))
    assert got.frames is None and got.n_frames == 49 and got.pooled.shape == (4, 48)


def test_silence_and_loudness_stay_finite(tmp_path):
    make(tmp_path, **TINY)
    waves = [np.zeros(8000, np.float32), speech_like(8000)[0] * 1e4]
    assert all(np.isfinite(got.pooled).all() for got in Encoder(tmp_path, "cpu").embed(waves))


@pytest.mark.parametrize("config", [{}, PRE_NORM], ids=["group norm", "layer norm"])
def test_long_audio_goes_through_in_windows(tmp_path, monkeypatch, config):
    """The convolutional front is exact at every seam; deeper, a window misses what lies outside it.

    With random weights attention averages over all that it sees, the worst case for a window: 100 frames that see 40
    more on either side move a hidden state by at most 0.1 of its spread here, and each frame is there once.
    """
    models = make(tmp_path, **TINY | config)
    (wave,) = speech_like(HOP * 470)
    expected = reference(*models, wave)
    for name, value in {"WHOLE": 180, "INNER": 100, "CONTEXT": 40}.items():
        monkeypatch.setattr(engine, name, value)
    subject = Encoder(tmp_path, "cpu", 2)
    seen, features = [], subject._features
    monkeypatch.setattr(subject, "_features", lambda *args: seen.append(args[-2:]) or features(*args))
    for layer in range(4):
        (got,) = subject.embed([wave], layer)
        assert got.frames.shape == expected[layer].shape
        tolerance = 1e-5 if layer == 0 else 0.1 * expected[layer].std()  # layer 0: rounding only
        np.testing.assert_allclose(got.frames, expected[layer], atol=tolerance)
        np.testing.assert_allclose(got.pooled[layer], got.frames.mean(0), atol=1e-5)
    assert seen[:5] == [(0, 140), (60, 240), (160, 340), (260, 440), (360, 469)]


@pytest.mark.slow
def test_four_minutes_of_speech_in_windows_and_as_a_whole(tmp_path, monkeypatch):
    """What the README states: the demo's encoder, whose attention reaches far, at the windows that users get.

    In units of the spread of the whole's last hidden state, over all frames, those beside a seam too.
    """
    demo = Path(__file__).parents[2] / "demo"
    pretrained.prepare(str(demo / "encoder"), None, tmp_path)
    paths = sorted((demo / "audio").iterdir())
    random.Random(0).shuffle(paths)
    wave = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths])[: 240 * 16_000]
    subject = Encoder(tmp_path, "cpu", 2)
    (in_windows,) = subject.embed([wave], 6)
    monkeypatch.setattr(engine, "WHOLE", len(wave))
    (whole,) = subject.embed([wave], 6)
    off = np.abs(in_windows.frames - whole.frames) / whole.frames.std()
    pooled = np.abs(in_windows.pooled - whole.pooled) / whole.frames.std()
    print(f"frames: {off.mean():.3f} on average, {np.quantile(off, 0.999):.2f} for 999 of 1000 values")
    print(f"pooled: {pooled[0].max():.1e} in front of the Transformer, {pooled[6].max():.2f} after it")
    assert len(wave) > 16_000 * 200 and off.mean() < 0.1 and np.quantile(off, 0.999) < 0.6
    assert pooled[0].max() < 1e-5 and pooled[6].max() < 0.2


def test_audio_too_short_for_a_frame_is_refused(tmp_path):
    make(tmp_path, **TINY)
    with pytest.raises(DataError, match="less than 400 samples makes no frame: set audio.min_seconds to 0.025"):
        Encoder(tmp_path, "cpu").embed([np.ones(399, np.float32)])


def test_weights_that_are_not_the_cards_are_refused(tmp_path):
    model = HubertModel(HubertConfig(**TINY))
    pretrained.save(model, Wav2Vec2FeatureExtractor(), tmp_path, Past())
    Encoder(tmp_path, "cpu")
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1  # one bit, in the middle of a tensor
    weights.write_bytes(content)
    with pytest.raises(DataError, match="model.safetensors: is damaged"):
        Encoder(tmp_path, "cpu")
