"""Embedding a shard: order, rejects, numbers that cannot be kept."""

import itertools
import logging
import time

import numpy as np
import pytest
import soundfile
from made_shard import Shard, change_weights
from test_hubert import TINY, make, reference

from ser.encoders import decoding
from ser.files import DataError, sha256
from ser.formats.manifest import Utterance


@pytest.fixture
def shard(tmp_path):
    return Shard(tmp_path, make(tmp_path / "encoder", **TINY))


def test_records_stand_in_the_manifest_s_order_and_hold_transformers_numbers(shard):
    got = shard.run()
    assert list(got) == ["a.wav", "b/2 ü.wav", "c.wav"]
    for utterance_id, (pooled, frames) in got.items():
        samples, _ = soundfile.read(shard.path(utterance_id), dtype="float32")
        expected = reference(*shard.models, samples)
        np.testing.assert_allclose(pooled.embedding, expected.mean(1), atol=1e-5)  # a tiny encoder's rounding
        np.testing.assert_allclose(frames.embedding, expected[2], atol=1e-5)
        assert pooled.n_frames == frames.n_frames == expected.shape[1]
        assert pooled.speaker_id == shard.speakers[utterance_id]
        assert pooled.sha256 == sha256(shard.path(utterance_id))


def test_half_precision_is_the_rounded_single_precision(shard):
    single, half = shard.run(reuse=False), shard.run(reuse=False, dtype="float16")
    for one, other in zip(single.values(), half.values(), strict=True):
        for record, rounded in zip(one, other, strict=True):
            assert rounded.embedding.dtype == np.float16
            np.testing.assert_array_equal(record.embedding.astype(np.float16), rounded.embedding)


def test_rejected_audio_has_no_record_and_a_line_in_the_log(shard, caplog):
    caplog.set_level(logging.INFO)
    shard.add("d silent.wav", "speaker b", seed=4, level=0)
    shard.add("0 short.wav", "speaker b", seed=5, seconds=0.1)
    assert list(shard.run()) == ["a.wav", "b/2 ü.wav", "c.wav"]
    assert "rejected d silent.wav" in caplog.text and "rejected 0 short.wav" in caplog.text
    assert "0 reused, 3 embedded, 2 rejected" in caplog.text


def test_a_shard_of_rejected_audio_alone_is_an_empty_file(shard):
    shard.speakers.clear()
    shard.add("silent.wav", "speaker b", seed=4, level=0)
    assert shard.run() == {}


def test_numbers_too_large_for_half_precision_stop_the_job(shard):
    change_weights(shard, "encoder.layers.2.final_layer_norm.bias", lambda bias: bias + 1e5)
    with pytest.raises(DataError, match="utterance a.wav: .* 1e\\+05, too large for float16; set dtype: float32"):
        shard.run(dtype="float16")
    assert not (shard.folder / "pooled.tfrecord").exists() and not (shard.folder / "reuse").exists()
    assert len(shard.run(dtype="float32")) == 3


def test_numbers_that_are_not_finite_stop_the_job(shard):
    change_weights(shard, "encoder.layers.0.final_layer_norm.bias", lambda bias: bias * np.float32("nan"))
    with pytest.raises(DataError, match="utterance a.wav: its embedding is not finite"):
        shard.run()


@pytest.mark.parametrize("layer", [4, -5, None])
def test_a_frames_layer_that_is_not_there_stops_the_job(shard, layer):
    with pytest.raises(DataError, match=f"frames layer {layer}: .* has layers 0 to 3"):
        shard.run(frames_layer=layer)


def test_long_recordings_are_decoded_only_as_there_is_room(monkeypatch):
    """Whatever `ahead` is; and nothing waits for ever when the stream is closed early."""
    begun, taken = [], []

    def load(path, **options):
        begun.append(path)
        return np.full(10, int(path), np.float32), None

    monkeypatch.setattr(decoding, "HELD_SAMPLES", 25)
    monkeypatch.setattr(decoding.decode, "load", load)
    utterances = [Utterance(f"{number:03d}", str(number), "speaker", "0") for number in range(60)]
    stream = decoding.decode_ahead(utterances, {}, ahead=30, workers=4)
    for utterance, samples in itertools.islice(stream, 40):
        assert int(utterance.path) == samples[0] == len(taken)
        taken.append(utterance)
        time.sleep(0.002)
        assert len(begun) - len(taken) <= 3 + 4  # held, and at work on it
    stream.close()
    assert len(taken) == 40
