"""A part of a file is what a file that was cut there would be."""

import io

import numpy as np
import pytest
import soundfile

from ser.audio import decode, sndfile

LIMITS = {"min_seconds": 0.1, "max_seconds": 1, "silence_db": -80}
SECONDS = 3.2


def write_tones(path, rate, kind, subtype=None):
    """Three seconds of two channels that change all the time; what the whole file decodes to, mixed down."""
    time = np.arange(round(SECONDS * rate)) / rate
    tones = np.stack([np.sin(2 * np.pi * (200 + 100 * time) * time), np.sin(2 * np.pi * 900 * time) * time / 4], 1)
    soundfile.write(path, 0.3 * tones, rate, format=kind, subtype=subtype)
    return soundfile.read(path, dtype="float32")[0].mean(axis=1)


@pytest.mark.parametrize(
    ("rate", "kind", "subtype"),
    [
        (16_000, "WAV", "PCM_16"),
        (16_000, "FLAC", "PCM_16"),
        (16_000, "OGG", "VORBIS"),
        (48_000, "OGG", "OPUS"),
        (16_000, "MP3", None),
        (44_100, "MP3", None),
        (44_100, "WAV", "PCM_24"),
        (44_100, "WAV", "IMA_ADPCM"),
    ],
)
@pytest.mark.parametrize(("start", "stop"), [(None, 0.5), (0.1, 0.9), (1.23456, 2.2), (2.5, None), (2.7, SECONDS)])
def test_a_part_is_what_a_file_cut_there_is(tmp_path, rate, kind, subtype, start, stop):
    path = tmp_path / "x"
    whole = write_tones(path, rate, kind, subtype)
    cut = whole[round((start or 0) * rate) : None if stop is None else round(stop * rate)]
    soundfile.write(tmp_path / "cut", cut, rate, format="WAV", subtype="FLOAT")
    expected, _ = decode.load(tmp_path / "cut", **LIMITS)
    samples, info = decode.load(path, **LIMITS, start=start, stop=stop)
    assert len(samples) == len(expected) and info.duration_s == len(cut) / rate
    np.testing.assert_allclose(samples, expected, atol=1e-4)
    if rate == 16_000:  # no resampling: the slice itself
        np.testing.assert_allclose(samples, cut, atol=1e-4)


def test_a_part_of_a_codec_that_cannot_seek(tmp_path):
    time = np.arange(16_000) / 8_000
    soundfile.write(tmp_path / "x", 0.3 * np.sin(1000 * time * time), 8_000, format="WAV", subtype="GSM610")
    whole = soundfile.read(tmp_path / "x", dtype="float32")[0]
    soundfile.write(tmp_path / "cut", whole[6_000:10_000], 8_000, format="WAV", subtype="FLOAT")
    samples, _ = decode.load(tmp_path / "x", **LIMITS, start=0.75, stop=1.25)
    np.testing.assert_array_equal(samples, decode.load(tmp_path / "cut", **LIMITS)[0])


def test_the_limits_are_those_of_the_part(tmp_path):
    file = io.BytesIO()
    soundfile.write(file, np.r_[np.zeros(16_000), np.full(32_000, 0.1)], 16_000, format="WAV")
    path = tmp_path / "x.wav"
    path.write_bytes(file.getvalue())
    decode.load(path, **LIMITS, start=1, stop=2)
    for part, reason in {
        (0, 0.5): "silent",
        (1, 1.05): "too short: 0.050 s",
        (1, 2.5): "too long: 1.500 s",
        (None, None): "too long: 3.000 s",
        (2.5, 3.02): "the file ends at 3.000 s, before the part from 2.5 to 3.02 s",
        (3, 3.005): "the file ends at 3.000 s",
        (1, 1): "no audio|too short",
    }.items():
        with pytest.raises(decode.Rejected, match=reason):
            decode.load(path, **LIMITS, start=part[0], stop=part[1])
    assert decode.load(path, **LIMITS, start=2.5, stop=3.009)[1].duration_s == 0.5  # rounded: the end of the file


def test_a_long_mp3_has_no_gaps_between_its_blocks(tmp_path, monkeypatch):
    whole = write_tones(tmp_path / "x", 16_000, "MP3")
    monkeypatch.setattr(sndfile, "BLOCK_VALUES", 2 * 4_410)
    samples, _ = decode.load(tmp_path / "x", **LIMITS | {"max_seconds": 4})
    np.testing.assert_allclose(samples, whole, atol=1e-6)
