"""bfloat16 on a processor: who gets it, what the log says, and how far its features are from float32's."""

import logging

import numpy as np
import pytest
import torch
from made_shard import Shard, equal
from test_families import OWN, make
from test_hubert import PRE_NORM, TINY, reference, speech_like

from ser.encoders import precision
from ser.encoders.engine import Encoder
from ser.encoders.precision import has_fast_bfloat16, log_saving, resolve_precision
from ser.formats.encoder_families import FAMILIES


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Sets what this machine's processor says that it has."""

    def have(flags):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: fpu avx2 {flags}\nbugs : none\n")
        monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
        has_fast_bfloat16.cache_clear()

    yield have
    has_fast_bfloat16.cache_clear()


@pytest.mark.parametrize(("flags", "fast"), [("avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx512f", False)])
def test_a_processor_that_has_no_instructions_for_it_computes_in_float32(processor, caplog, flags, fast):
    processor(flags)
    caplog.set_level(logging.WARNING)
    assert has_fast_bfloat16() == fast
    assert resolve_precision("bfloat16", "cpu") == ("bfloat16" if fast else "float32")
    assert ("this processor has no instructions for it (avx512_bf16 or amx_bf16)" in caplog.text) != fast
    assert resolve_precision("auto", "cpu") == resolve_precision("float32", "cpu") == "float32"
    for each in ("auto", "float32", "bfloat16"):
        assert resolve_precision(each, "cuda") == each


def test_where_nothing_is_known_of_the_processor_it_is_float32(monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "none")
    has_fast_bfloat16.cache_clear()
    assert not has_fast_bfloat16()
    has_fast_bfloat16.cache_clear()


def test_auto_says_what_bfloat16_would_save(processor, caplog):
    caplog.set_level(logging.INFO)
    processor("avx2")
    log_saving(64)
    assert caplog.text == ""
    processor("avx512_bf16")
    log_saving(64)
    assert "precision auto: float32. This processor makes a layer's product in bfloat16 in" in caplog.text


# Rounded to 8 bits at each of some 30 steps; transformers in bfloat16 is as far from its own float32.
@pytest.mark.parametrize("shape", [{}, PRE_NORM], ids=["base", "large"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_bfloat16_is_as_close_to_float32_as_transformers_own(tmp_path, processor, kind, shape):
    if kind == "data2vec-audio" and shape:
        pytest.skip("has no pre-norm shape")
    processor("avx512_bf16")
    extractor, model = make(tmp_path, kind, **TINY | OWN.get(kind, {}) | shape)
    waves = speech_like(16_000, 30_001)
    subject = Encoder(tmp_path, "cpu", 1, "bfloat16")
    assert subject.like.dtype == torch.bfloat16
    expected = [reference(extractor, model, wave).mean(1) for wave in waves]
    model = model.bfloat16()
    with torch.no_grad():
        inputs = [extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values.bfloat16() for wave in waves]
        states = [torch.cat(model(values, output_hidden_states=True).hidden_states) for values in inputs]
    theirs = [state.float().mean(1).numpy() for state in states]
    ours = [embedding.pooled for embedding in subject.embed(waves)]
    spread = np.concatenate(expected).std()
    off, off_theirs = (
        np.sqrt(np.mean([np.square(a - b).mean() for a, b in zip(some, expected, strict=True)])) / spread
        for some in (ours, theirs)
    )
    assert 0 < off < max(1.5 * off_theirs, 0.01)


def test_records_in_another_precision_are_no_records_of_this_one(tmp_path, processor):
    shard = Shard(tmp_path, make(tmp_path / "encoder", "hubert", **TINY))
    shard.add("a.wav", "speaker", seed=1)
    processor("avx2")
    plain, asked = shard.run(precision="float32"), shard.run(precision="bfloat16")
    assert equal(plain, asked) and len(shard.stash()) == 2  # what it comes to decides, not what was asked for
    processor("avx512_bf16")
    rounded = shard.run(precision="bfloat16")
    assert not equal(plain, rounded)
    np.testing.assert_allclose(rounded["a.wav"][0].embedding, plain["a.wav"][0].embedding, atol=0.05)
