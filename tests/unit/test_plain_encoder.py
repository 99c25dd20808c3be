"""The plain way: encoders that transformers runs, their own frames alone, and what is refused."""

import json
import logging

import numpy as np
import pytest
import torch
import transformers
from made_shard import AUDIO, Shard
from safetensors.torch import save_file
from test_hubert import speech_like

from ser.adaptation import pseudo_labels
from ser.encoders import plain, plain_encoder, pretrained
from ser.encoders.opening import open_encoder
from ser.files import DataError, read_json
from ser.formats.encoder_families import check_trainable

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {"hidden_size": 48, "intermediate_size": 64}
WHISPER = {"d_model": 48, "encoder_layers": 2, "decoder_layers": 3, "vocab_size": 100, "pad_token_id": 0}
WHISPER |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
WHISPER |= {
    f"{side}_{key}": n for side in ("encoder", "decoder") for key, n in (("ffn_dim", 64), ("attention_heads", 4))
}
SEW = {"conv_dim": [16] * 13, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
FRONT = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
# name: (what begins its classes, its feature extractor, sizes, frames a second)
KINDS = {
    "sew": ("SEW", transformers.Wav2Vec2FeatureExtractor(), WIDE | SIZES | SEW, 25),
    "wav2vec2-conformer": ("Wav2Vec2Conformer", transformers.Wav2Vec2FeatureExtractor(), WIDE | SIZES | FRONT, 50),
    "wav2vec2-bert": ("Wav2Vec2Bert", transformers.SeamlessM4TFeatureExtractor(), WIDE | SIZES, 50),
    "whisper": ("Whisper", transformers.WhisperFeatureExtractor(), WHISPER, 50),
}


def make(folder, kind, **config):
    """transformers' model and feature extractor of a kind, in a folder as from the hub: of Whisper all of it."""
    torch.manual_seed(0)
    name, extractor, sizes, _ = KINDS[kind]
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes | config)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model, extractor


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="module", params=KINDS)
def prepared(request, tmp_path_factory):
    """(kind, the prepared folder, transformers' model and feature extractor)."""
    folder = tmp_path_factory.mktemp(request.param)
    models = make(folder / "base", request.param)
    pretrained.prepare(str(folder / "base"), None, folder / "encoder")
    return request.param, folder / "encoder", *models


def expect(kind, model, extractor, wave):
    """Hidden states by a script of one's own, (layers + 1, frames, width); without padded frames."""
    inputs = extractor(wave, sampling_rate=16_000, return_tensors="pt")
    model = model.get_encoder() if kind == "whisper" else model
    with torch.no_grad():
        states = torch.cat(model(**inputs, output_hidden_states=True).hidden_states)
    own = inputs["attention_mask"].sum() if "attention_mask" in inputs else None
    own = -(-len(wave) // 320) if kind == "whisper" else own
    return states[:, :own].numpy()


def test_embeddings_are_transformers_own(prepared):
    kind, folder, model, extractor = prepared
    encoder = open_encoder(folder, "cpu", 1)
    for wave, got in zip(waves := speech_like(16_000, 9_123, 40_001), encoder.embed(waves, 1), strict=True):
        expected = expect(kind, model, extractor, wave)
        assert got.n_frames == expected.shape[1] and abs(got.n_frames - len(wave) * KINDS[kind][3] / 16_000) < 2
        np.testing.assert_allclose(got.frames, expected[1], atol=1e-5)  # the same operations
        np.testing.assert_allclose(got.pooled, expected.mean(1), atol=1e-5)


def test_the_card_says_that_it_is_the_plain_way(prepared):
    kind, folder, model, _ = prepared
    card = read_json(folder / "card.json")
    assert (card["way"], card["family"], card["frame_rate"]) == ("plain", kind, KINDS[kind][3])
    assert (card["layers"], card["width"]) == (2, 48)
    if kind == "whisper":
        assert card["architecture"] == "WhisperEncoder, run by transformers"
        assert card["not_used"] == [f"decoder ({len(model.decoder.state_dict())} tensors)"]
        again = transformers.models.whisper.modeling_whisper.WhisperEncoder.from_pretrained(folder)
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.encoder.parameters(), strict=True))


def test_preparing_it_again_changes_nothing(prepared, tmp_path):
    _, folder, *_ = prepared
    pretrained.prepare(str(folder), None, tmp_path)
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_long_audio_goes_through_in_equal_parts(prepared, monkeypatch):
    """Whisper hears 30 s at most: 31 s are two parts, each padded; of the others parts are of `LONGEST` at most."""
    kind, folder, model, extractor = prepared
    monkeypatch.setattr(plain_encoder, "LONGEST", 80 if kind == "whisper" else 16)
    (wave,) = speech_like(31 * 16_000)
    (got,) = open_encoder(folder, "cpu", 1).embed([wave], 2)
    states = [expect(kind, model, extractor, part) for part in np.array_split(wave, 2)]
    expected = np.concatenate(states, axis=1)
    assert got.n_frames == len(got.frames) == expected.shape[1]
    np.testing.assert_allclose(got.pooled, expected.mean(1), atol=1e-4)  # sums of 1,500 frames in float32


def test_a_shard_is_embedded_as_by_any_encoder(prepared, tmp_path, caplog):
    _, folder, *_ = prepared
    (tmp_path / "encoder").symlink_to(folder)
    shard = Shard(tmp_path, None)
    for number in range(3):
        shard.add(f"{number}.wav", "speaker", seed=number, seconds=1 + number / 3)
    with caplog.at_level(logging.INFO):
        got = shard.run(frames_layer=-1)
    assert "goes the plain way, through transformers'" in caplog.text
    for utterance, (pooled, frames) in got.items():
        assert pooled.embedding.shape == (3, 48) and pooled.n_frames == len(frames.embedding), utterance
    assert AUDIO["min_seconds"] == 0.2


def test_what_is_no_encoder_of_the_engine_is_not_trained(prepared):
    kind, folder, *_ = prepared
    match = f"an encoder of model_type '{kind}' can be embedded with, but neither pre-trained nor fine-tuned"
    with pytest.raises(DataError, match=match):
        pretrained.load(folder)
    with pytest.raises(DataError, match=f"^config: encoders: {match}"):
        check_trainable(folder, "config: encoders")
    with pytest.raises(DataError, match=match):
        pseudo_labels.open_features(str(folder / "card.json"), {"features": "layer", "layer": 1}, "cpu", 1)


@pytest.mark.parametrize(
    ("file", "values", "match"),
    [
        ("config.json", {"model_type": "bert"}, "model_type is 'bert', which takes no audio, expected one of hubert"),
        ("config.json", {"model_type": "my-own"}, "model_type is 'my-own', expected one of hubert, .* transformers 5"),
        ("config.json", {"num_hidden_layers": 10**7}, "num_hidden_layers is '10000000', expected numbers up to 256"),
        ("config.json", {"hidden_size": 999_936}, "makes a model of .* parameters, expected 4e.09 at most"),
        ("config.json", {"hidden_size": [[1]]}, r"hidden_size is '\[\[1\]\]', expected numbers up to"),
        ("config.json", {"hidden_act": "none"}, "is no configuration of sew"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "sampling_rate is 8000, expected 16000"),
        (
            "preprocessor_config.json",
            {"feature_extractor_type": "os.system"},
            "is no feature extractor's configuration",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, file, values, match):
    make(tmp_path / "base", "sew")
    edit(tmp_path / "base" / file, **values)
    with pytest.raises(DataError, match=match):
        pretrained.prepare(str(tmp_path / "base"), None, tmp_path / "out")
    assert not (tmp_path / "out/card.json").exists()


def test_no_code_of_a_model_s_own_is_run(tmp_path):
    make(tmp_path / "base", "sew")
    (tmp_path / "base/own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    own = dict.fromkeys(("AutoModel", "AutoConfig", "AutoFeatureExtractor"), "own.Own")
    edit(
        tmp_path / "base/config.json", auto_map=own, attn_implementation="someone/kernel", quantization_config={"a": 1}
    )
    edit(tmp_path / "base/preprocessor_config.json", auto_map=own)
    pretrained.prepare(str(tmp_path / "base"), None, tmp_path / "out")
    written = (tmp_path / "out/config.json").read_text() + (tmp_path / "out/preprocessor_config.json").read_text()
    assert not (tmp_path / "ran").exists() and "own.Own" not in written and "someone/kernel" not in written


def test_an_encoder_whose_frames_do_not_follow_the_audio_is_refused():
    """Patches of a spectrogram that is padded to one size are no frames."""
    model = transformers.ASTModel(transformers.ASTConfig(**WIDE | SIZES, max_length=128, num_mel_bins=32)).eval()
    with pytest.raises(DataError, match="ASTModel: its frames do not follow the audio's length"):
        plain.describe_plain(model, transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=32))


def test_a_missing_feature_extractor_or_weight_is_refused(tmp_path):
    model, extractor = make(tmp_path / "base", "wav2vec2-bert")
    state = model.state_dict()
    del state["encoder.layers.1.self_attn.linear_q.bias"]
    save_file(state, tmp_path / "base/model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="weight encoder.layers.1.self_attn.linear_q.bias is missing"):
        pretrained.prepare(str(tmp_path / "base"), None, tmp_path / "out")
    (tmp_path / "base/preprocessor_config.json").unlink()
    with pytest.raises(DataError, match="has no preprocessor_config.json, which says what wav2vec2-bert hears"):
        pretrained.prepare(str(tmp_path / "base"), None, tmp_path / "out")
