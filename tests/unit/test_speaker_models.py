"""Models for speaker verification against transformers' own, one utterance at a time."""

import json
import threading

import numpy as np
import pytest
import soundfile
import torch
import transformers
from test_families import OWN, make_model
from test_hubert import PRE_NORM, TINY, speech_like
from transformers import Wav2Vec2FeatureExtractor

from ser.files import DataError, read_json, sha256
from ser.formats import tfrecord
from ser.formats.csv_files import format_rows
from ser.formats.encoder_families import FAMILIES, SPEAKER_FAMILIES
from ser.formats.manifest import COLUMNS
from ser.speakers.from_audio import describe_speaker, open_extractor
from ser.speakers.measure import measure_shard
from ser.speakers.speaker_models import prepare_model
from ser.speakers.xvector import XVector

KINDS = ["wavlm", "wav2vec2", "unispeech-sat", "data2vec-audio"]
HEAD = {"tdnn_dim": [24, 20, 28], "tdnn_kernel": [5, 3, 1], "tdnn_dilation": [1, 2, 1], "xvector_output_dim": 12}


def make(folder, kind, normalise=True, **config):
    """A checkpoint as it lies on the hub, the model of it, and its preprocessor."""
    model = make_model(kind, "ForXVector", **config)
    model.save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalise)
    extractor.save_pretrained(folder)
    return model, extractor


def reference(model, extractor, wave):
    values = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        return model(values).embeddings[0].numpy()


def compare(folder, kind, lengths, normalise=True, **config):
    """The largest difference from transformers' vectors, in their standard deviations."""
    models = make(folder / "hub", kind, normalise, **config)
    prepare_model(str(folder / "hub"), None, folder / "model")
    extract = XVector(folder / "model")
    waves = speech_like(*lengths)
    wanted = np.stack([reference(*models, wave) for wave in waves])
    return np.abs(np.stack([extract(wave) for wave in waves]) - wanted).max() / wanted.std()


@pytest.mark.parametrize("mixed", [True, False], ids=["mixture of layers", "last layer"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_family_agrees_with_transformers(tmp_path, kind, mixed):
    shape = {} if mixed or kind == "data2vec-audio" else PRE_NORM  # its last layer has a norm of its own
    config = TINY | OWN.get(kind, {}) | HEAD | {"use_weighted_layer_sum": mixed} | shape
    # The shortest has two frames to average: 5 + 4 + 2 frames are one.
    assert compare(tmp_path, kind, [16_000, 400 + 9 * 320, 30_001], mixed, **config) < 2e-5  # tiny: few roundings


@pytest.mark.slow  # 95 million random weights each
@pytest.mark.parametrize("kind", KINDS)
def test_true_shapes_agree_with_transformers(tmp_path, kind):
    """microsoft/wavlm-base-plus-sv and its kin: 12 layers of 768, time-delay layers of 512 and 1500, vectors of 512."""
    assert compare(tmp_path, kind, [8_000, 48_000], use_weighted_layer_sum=True) < 1e-4


def test_audio_too_short_has_no_vector_and_does_not_count(tmp_path):
    make(tmp_path / "hub", "wavlm", **TINY | OWN["wavlm"] | HEAD)
    prepare_model(str(tmp_path / "hub"), None, tmp_path / "model")
    extract = open_extractor("model", tmp_path / "model")
    assert np.isnan(extract(speech_like(400 + 9 * 320 - 1)[0])).all()  # one frame has no deviation
    assert np.isnan(extract(np.ones(100, np.float32))).all()
    waves = speech_like(16_000, 9_000)
    alone = [extract(wave).astype(float) for wave in waves]
    np.testing.assert_array_equal(
        describe_speaker(extract, [waves[0], np.ones(100, np.float32), waves[1]]), np.mean(alone, 0)
    )
    assert describe_speaker(extract, [np.ones(100, np.float32)]) is None


def test_what_is_no_speaker_model_is_named(tmp_path):
    model = make_model("wavlm", **TINY | OWN["wavlm"])
    model.save_pretrained(tmp_path / "encoder")
    with pytest.raises(DataError, match=r"has no speaker model's head .projector.weight.: it is an encoder"):
        prepare_model(str(tmp_path / "encoder"), None, tmp_path / "out")
    make(tmp_path / "hub", "wavlm", **TINY | OWN["wavlm"] | HEAD)
    path = tmp_path / "hub" / "config.json"
    path.write_text(json.dumps(read_json(path) | {"tdnn_kernel": [5, 3]}))
    with pytest.raises(DataError, match="tdnn_dim, tdnn_kernel, tdnn_dilation and xvector_output_dim are no sizes"):
        prepare_model(str(tmp_path / "hub"), None, tmp_path / "out")
    path.write_text(json.dumps(read_json(path) | {"tdnn_kernel": [5, 3, 2]}))
    with pytest.raises(DataError, match=r"weight tdnn.2.kernel.weight has shape"):
        prepare_model(str(tmp_path / "hub"), None, tmp_path / "out")
    make_model("hubert", **TINY).save_pretrained(tmp_path / "hubert")
    with pytest.raises(DataError, match="model_type hubert has no speaker models"):
        prepare_model(str(tmp_path / "hubert"), None, tmp_path / "out")


def test_a_damaged_head_is_named(tmp_path):
    make(tmp_path / "hub", "wavlm", **TINY | OWN["wavlm"] | HEAD)
    prepare_model(str(tmp_path / "hub"), None, tmp_path / "model")
    (tmp_path / "model" / "xvector.safetensors").write_bytes(b"0")
    with pytest.raises(DataError, match="xvector.safetensors: is damaged"):
        XVector(tmp_path / "model")


def test_the_plan_knows_the_families_that_have_speaker_models():
    configs = {kind: getattr(transformers, f"{name}Config")() for kind, name in FAMILIES.items()}
    assert {kind for kind, config in configs.items() if hasattr(config, "tdnn_dim")} == set(SPEAKER_FAMILIES)


def test_vectors_do_not_depend_on_the_number_of_threads_that_measure_them(tmp_path, monkeypatch):
    make(tmp_path / "hub", "wavlm", **TINY | OWN["wavlm"] | HEAD)
    prepare_model(str(tmp_path / "hub"), None, tmp_path / "model")
    rows, extract = [], XVector.__call__
    for number, wave in enumerate(speech_like(*np.random.default_rng(0).integers(4_000, 20_000, 12))):
        soundfile.write(tmp_path / f"{number}.wav", wave, 16_000, "FLOAT")
        rows.append((f"u{number:02}", str(tmp_path / f"{number}.wav"), "s", sha256(tmp_path / f"{number}.wav")))
    (tmp_path / "shard-000.csv").write_text(format_rows(COLUMNS, rows))
    options = {"kind": "model", "folder": tmp_path / "model", "device": "cpu", "reuse_dir": None, "fingerprint": ""}
    options["audio"] = {"min_seconds": 0.025, "max_seconds": 60, "silence_db": -80}
    for threads in (1, 3):
        together = threading.Barrier(threads)  # whoever calls waits here until so many do: one by one they never would

        def meet(model, samples, together=together):
            together.wait(30)
            return extract(model, samples)

        monkeypatch.setattr(XVector, "__call__", meet)
        measure_shard(tmp_path / "shard-000.csv", tmp_path / f"{threads}.tfrecord", threads=threads, **options)
    assert len(list(tfrecord.read(tmp_path / "1.tfrecord"))) == 12
    assert (tmp_path / "1.tfrecord").read_bytes() == (tmp_path / "3.tfrecord").read_bytes()
