"""The formats that phones and the web make: their length to a frame, their samples as FFmpeg decodes them."""

import io
import logging
import struct

import av
import numpy as np
import pytest
import soundfile
import soxr
from made_audio import LIMITS, encode, load_bytes, make_speech, reason_of

from ser.audio import decode, ffmpeg

SECONDS = 1.5
STEREO, HIFI, PHONE = (make_speech(SECONDS, *each) for each in ((44_100, 2), (48_000, 2), (8_000, 1)))
FRAGMENTS = {"options": {"movflags": "empty_moov+frag_keyframe"}}
# samples, rate, container, codec, settings; samples that a frame of the codec has; whether the file tells the delay
FORMATS = {
    "M4A": (STEREO, 44_100, "ipod", "aac", {}, 1, True),  # to a sample: the edit list says where it ends
    "Apple Lossless": (STEREO, 44_100, "ipod", "alac", {}, 1, True),
    "MP4 with pictures": (STEREO, 44_100, "mp4", "aac", {"video": "mpeg4"}, 1, True),
    "fragmented MP4": (STEREO, 44_100, "mp4", "aac", FRAGMENTS, 1024, False),
    "3GP": (PHONE, 8_000, "3gp", "libopencore_amrnb", {"bit_rate": 12_200}, 160, False),
    "AMR": (PHONE, 8_000, "amr", "libopencore_amrnb", {"bit_rate": 12_200}, 160, False),
    "WebM": (HIFI, 48_000, "webm", "libopus", {}, 1, True),
    "WebM of a browser": (HIFI, 48_000, "webm", "libopus", {"piped": True}, 1, True),  # has no duration
    "WebM with pictures": (HIFI, 48_000, "webm", "libopus", {"video": "vp8"}, 1, True),
    "WMA": (STEREO, 44_100, "asf", "wmav2", {}, 2048, False),
    "Ogg-FLAC": (STEREO, 44_100, "ogg", "flac", {}, 1, True),
    "Opus": (HIFI, 48_000, "ogg", "libopus", {}, 1, True),
    "FLAC of 32 bits": (STEREO, 44_100, "flac", "flac", {"bits": 32}, 1, True),
    "FLAC to a pipe": (STEREO, 44_100, "flac", "flac", {"piped": True}, 1, True),
    "ADTS": (STEREO, 44_100, "adts", "aac", {}, 1024, False),
    "MP3 in a WAV": (STEREO, 44_100, "wav", "libmp3lame", {}, 1152, False),
    "MP3": (STEREO, 44_100, "mp3", "libmp3lame", {}, 1, True),
    "MP2": (STEREO, 44_100, "mp2", "mp2", {}, 1152, False),
    "AC-3 in Matroska": (STEREO, 44_100, "matroska", "ac3", {}, 1536, True),
    "G.726 in a WAV": (PHONE, 8_000, "wav", "g726", {"bit_rate": 32_000}, 1, True),
}


def decode_plainly(content: bytes) -> tuple[np.ndarray, int]:
    """By FFmpeg that finds out by itself what it is given: the mean over channels, and the rate."""
    with av.open(io.BytesIO(content)) as file:
        stream = file.streams.audio[0]
        to_float = av.AudioResampler("fltp")
        blocks = [each.to_ndarray() for frame in file.decode(stream) for each in to_float.resample(frame)]
        return np.concatenate(blocks, axis=1).mean(axis=0), stream.rate


def to_16k(mono: np.ndarray, rate: int) -> np.ndarray:
    return mono if rate == 16_000 else soxr.resample(mono, rate, 16_000, quality="HQ")


@pytest.mark.parametrize(
    ("samples", "rate", "container", "codec", "settings", "frame", "tells_delay"), FORMATS.values(), ids=FORMATS
)
def test_formats(tmp_path, samples, rate, container, codec, settings, frame, tells_delay):
    content = encode(samples, rate, container, codec, **settings)
    found, info = load_bytes(tmp_path, content)
    assert (info.sample_rate, info.channels) == (rate, samples.shape[1])
    # Encoders whose delay no header tells put it before the samples, and fill the last frame: two frames and a bit.
    assert abs(info.duration_s * rate - len(samples)) < (1.5 if frame == 1 else 2.5 * frame)
    by_ffmpeg = to_16k(*decode_plainly(content))
    shared = min(len(found), len(by_ffmpeg)) - 400  # ahead of where resampling sees the other's padding
    np.testing.assert_allclose(found[:shared], by_ffmpeg[:shared], atol=1e-3)
    if tells_delay:  # the codec's error is less than what a delay of a millisecond would be
        original = to_16k(samples.mean(axis=1), rate)
        assert np.abs(found[1000:20_000] - original[1000:20_000]).max() < 0.04
        assert np.abs(found[1000:20_000] - original[1016:20_016]).max() > 0.04
    for start, stop in ((0.4, 0.9), (1.1, None)):
        (tmp_path / "x").write_bytes(content)
        part, _ = decode.load(tmp_path / "x", **LIMITS, start=start, stop=stop)
        with open(tmp_path / "x", "rb", buffering=0) as file:
            cut = decode.read_recordings(file, decode.Part(0, None, 10)).mono
        cut = cut[round(start * rate) : None if stop is None else round(stop * rate)]
        soundfile.write(tmp_path / "cut", cut, rate, format="WAV", subtype="FLOAT")
        np.testing.assert_allclose(part, decode.load(tmp_path / "cut", **LIMITS)[0], atol=1e-4)


def test_wideband_amr(tmp_path):
    """No encoder is at hand: 70 frames of noise in the lowest mode, 132 bits of it behind each frame's header."""
    rng = np.random.default_rng(0)
    content = b"#!AMR-WB\n" + b"".join(b"\x04" + rng.bytes(17) for _ in range(70))
    found, info = load_bytes(tmp_path, content)
    assert (info.sample_rate, info.channels, info.duration_s) == (16_000, 1, 1.4)
    np.testing.assert_allclose(found, decode_plainly(content)[0], atol=1e-3)
    assert reason_of(tmp_path, content[:-5]).startswith("cannot be decoded: truncated or damaged")


def test_the_default_of_several_streams_is_read_and_said(tmp_path, caplog):
    one = encode(HIFI, 48_000, "webm", "libopus")
    with caplog.at_level(logging.WARNING):
        found, _ = load_bytes(tmp_path, encode([HIFI, HIFI[::-1]], 48_000, "webm", "libopus"))
    np.testing.assert_allclose(found, load_bytes(tmp_path, one)[0], atol=1e-6)
    assert "2 streams of audio, of which number 1 is read" in caplog.text


@pytest.mark.parametrize("name", ["M4A", "WebM", "AMR", "WMA", "FLAC to a pipe", "ADTS", "G.726 in a WAV", "Ogg-FLAC"])
def test_what_ends_early_is_set_aside(tmp_path, name):
    samples, rate, container, codec, settings, _, _ = FORMATS[name]
    content = encode(samples, rate, container, codec, **settings)
    assert "truncated" in reason_of(tmp_path, content[: len(content) * 2 // 3 + 7])


def test_the_limits_hold_for_every_decoder(tmp_path):
    content = encode(STEREO, 44_100, "ipod", "aac")
    (tmp_path / "x").write_bytes(content)
    for limits, reason in {
        (0.1, 1.0): "too long: expected at most 1 s",
        (2.0, 9.0): "too short: 1.500 s, expected at least 2 s",
    }.items():
        with pytest.raises(decode.Rejected, match=reason):
            decode.load(tmp_path / "x", *limits, silence_db=-80)
    with pytest.raises(decode.Rejected, match="the file ends at 1.500 s, before the part from 1 to 2 s"):
        decode.load(tmp_path / "x", **LIMITS, start=1, stop=2)
    with pytest.raises(decode.Rejected, match="too long: 1.000 s, expected at most 0.5 s"):
        decode.load(tmp_path / "x", 0.1, 0.5, silence_db=-80, start=0.2, stop=1.2)
    silent = encode(np.zeros_like(STEREO), 44_100, "ipod", "aac")
    assert reason_of(tmp_path, silent) == "silent: below -80 dB"
    assert "no audio in it" in reason_of(tmp_path, make_pictures())


def make_pictures() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
        out.mux([*stream.encode(picture), *stream.encode(None)])
    return file.getvalue()


def test_a_recording_opens_no_other_file_and_no_decoder_of_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.wav").write_bytes(encode(PHONE, 8_000, "wav", "pcm_s16le"))
    for text in (
        "ffconcat version 1.0\nfile other.wav\n",
        "#EXTM3U\n#EXTINF:1,\nother.wav\n",
        "[playlist]\nFile1=other.wav",
    ):
        assert reason_of(tmp_path, text.encode()) == "cannot be decoded: a playlist; list the files that it names"
    content = encode(STEREO, 44_100, "mov", "pcm_s16le")
    # A QuickTime reference to another file in place of "in this file": an alias with the name in it.
    at = content.index(b"dref") + 4
    assert content[at + 12 : at + 16] in (b"url ", b"alis")
    other = content[: at + 12] + b"url \0\0\0\0" + content[at + 20 :]
    (tmp_path / "x").write_bytes(other)
    opened = []
    monkeypatch.setattr(ffmpeg, "_refuse", lambda *names: opened.append(names))
    try:
        decode.load(tmp_path / "x", **LIMITS)
    except decode.Rejected as reason:
        assert "truncated or damaged" in str(reason)
    assert not opened
    assert not {"h264", "mpeg4", "png", "mjpeg"} & set(ffmpeg.DECODERS)


def set_data_size(content: bytes, size: int) -> bytes:
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def make_wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, PHONE, 8_000, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("excess", [0, 8, 36, 44])
@pytest.mark.parametrize("size", [None, 0, 0xFFFF_FFFF])
def test_a_wav_header_that_recorders_leave_is_read_to_the_end(tmp_path, excess, size):
    content = make_wav()
    expected, _ = load_bytes(tmp_path, content)
    found, info = load_bytes(tmp_path, set_data_size(content, len(content) - 44 + excess if size is None else size))
    np.testing.assert_array_equal(found, expected)
    assert info.duration_s == SECONDS


def test_a_wav_header_that_counts_more_without_a_reason_says_how_to_mend_it(tmp_path):
    content = make_wav()
    reason = reason_of(tmp_path, set_data_size(content, len(content) + 1000))
    assert reason.startswith("truncated, or a wrong header: 24000 of 25044 bytes of audio are there")
    assert "mend the header with: ffmpeg -i FILE -c copy NEW.wav" in reason
