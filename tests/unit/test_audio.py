"""Decoding audio, against librosa; and every kind of file that must be set aside."""

import hashlib
import io
import os
import socket
import struct
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ser.audio import decode, sndfile
from ser.files import DataError

LIMITS = {"min_seconds": 0.1, "max_seconds": 120, "silence_db": -80}
CORPORA = Path(__file__).parents[2].parent / "shared" / "data"


def make_speech(seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    """Something with a spectrum, different in each channel, (n, channels) float32."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(1)
    tones = [np.sin(2 * np.pi * 150 * (c + 1) * time) * (1 + np.sin(7 * time)) for c in range(channels)]
    return (0.2 * np.stack(tones, 1) + rng.normal(0, 0.02, (len(time), channels))).astype(np.float32)


def encode(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def load_bytes(folder: Path, content: bytes) -> tuple[np.ndarray, decode.Info]:
    path = folder / "x.wav"
    path.write_bytes(content)
    return decode.load(path, **LIMITS)


def reason_of(path: Path, **limits) -> str:
    with pytest.raises(decode.Rejected) as caught:
        decode.load(path, **(LIMITS | limits))
    reason = str(caught.value)
    assert reason and "\n" not in reason and str(path.parent) not in reason and path.name not in reason
    return reason


@pytest.mark.parametrize(
    ("rate", "channels", "kind", "subtype"),
    [
        (16_000, 1, "WAV", "PCM_16"),
        (8_000, 1, "WAV", "PCM_U8"),
        (8_000, 1, "WAV", "ULAW"),
        (192_000, 1, "WAV", "PCM_24"),
        (44_100, 2, "WAV", "PCM_16"),
        (48_000, 6, "WAV", "PCM_24"),
        (22_050, 3, "WAV", "DOUBLE"),
        (11_025, 1, "WAV", "PCM_32"),
        (12_345, 2, "WAV", "FLOAT"),
        (16_000, 1, "FLAC", "PCM_16"),
        (96_000, 2, "FLAC", "PCM_24"),
        (44_100, 2, "OGG", "VORBIS"),
        (48_000, 1, "OGG", "OPUS"),
        (44_100, 2, "MP3", None),
        (16_000, 1, "MP3", None),
    ],
)
def test_any_rate_channels_and_format_decode_as_librosa_does(tmp_path, rate, channels, kind, subtype):
    path = tmp_path / "x.audio"
    path.write_bytes(encode(make_speech(0.777, rate, channels), rate, kind, subtype))
    samples, info = decode.load(path, **LIMITS)
    expected, _ = librosa.load(path, sr=16_000, mono=True)
    assert samples.dtype == np.float32 and samples.shape == expected.shape
    # The same decoder and resampler: only the order of the channels' float32 sum may differ.
    np.testing.assert_allclose(samples, expected, atol=3e-7)
    assert (info.sample_rate, info.channels) == (rate, channels)
    assert info.duration_s == pytest.approx(librosa.get_duration(path=path), abs=1e-9)


@pytest.mark.parametrize("corpus", ["emodb", "ravdess_shift"])
def test_real_speech_decodes_as_librosa_does(corpus):
    files = sorted((CORPORA / corpus / "audio").glob("*"))
    if not files:
        pytest.skip(f"{corpus} is not beside this repository")
    stereo = [path for path in files if corpus == "ravdess_shift" and path.suffix == ".wav"]
    for path in files[:: len(files) // 8] + stereo:
        samples, _ = decode.load(path, **LIMITS)
        np.testing.assert_allclose(samples, librosa.load(path, sr=16_000)[0], atol=3e-7)


def test_facts_are_those_of_the_mono_signal(tmp_path):
    time = np.arange(48_000) / 16_000
    sine = 0.5 * np.sin(2 * np.pi * 200 * time)  # 80 samples a period: the peak is hit exactly
    path = tmp_path / "x.wav"
    soundfile.write(path, np.stack([sine, np.zeros_like(sine)], 1), 16_000, subtype="FLOAT")
    _, info = decode.load(path, **LIMITS)
    # Half of amplitude 0.5 is 0.25; a sine's root mean square is its amplitude over the square root of two.
    assert (info.sample_rate, info.channels, info.duration_s) == (16_000, 2, 3.0)
    assert info.peak == pytest.approx(0.25, abs=1e-7)
    assert info.rms_db == pytest.approx(20 * np.log10(0.25 / np.sqrt(2)), abs=1e-4)  # float32 sums


def test_float_values_over_one_stay(tmp_path):
    samples, info = load_bytes(tmp_path, encode(make_speech() * 100, subtype="FLOAT"))
    assert info.peak > 10 and np.abs(samples).max() == pytest.approx(info.peak)


def test_a_long_file_is_mixed_down_in_blocks(tmp_path, monkeypatch):
    content = encode(make_speech(1, 44_100, 2), 44_100, "FLAC")
    whole, _ = load_bytes(tmp_path, content)
    monkeypatch.setattr(sndfile, "BLOCK_VALUES", 2 * 4_410)  # the file is a whole number of blocks
    blocks, _ = load_bytes(tmp_path, content)
    np.testing.assert_array_equal(whole, blocks)


def set_data_size(content: bytes, size: int) -> bytes:
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def with_sample(value: float) -> bytes:
    samples = make_speech()
    samples[500] = value
    return encode(samples, subtype="FLOAT")


BAD_CONTENT = {
    "0 bytes": (b"", "empty file"),
    "text": (b"not audio at all\n" * 20, "cannot be decoded: text, not audio"),
    "zeros": (bytes(5_000), "cannot be decoded: none of WAV, .*; samples without a header can be converted"),
    "half a header": (encode(make_speech())[:20], "cannot be decoded"),
    "header only": (encode(make_speech())[:44], "no audio after the header"),
    "no frames": (encode(np.zeros(0)), "no audio after the header"),
    "no FLAC frames": (encode(make_speech(), kind="FLAC")[:42], "truncated: 0 of 16000 frames"),
    "truncated WAV": (
        encode(make_speech())[:-2],
        r"truncated, or a wrong header: 31998 of 32000 bytes .* -c copy NEW.wav",
    ),
    "half a stereo WAV": (
        encode(make_speech(channels=2))[: 44 + 32_000],
        r"truncated, or a wrong header: 32000 of 64000 bytes",
    ),
    "truncated FLAC": (encode(make_speech(), kind="FLAC")[:9_000], "cannot be decoded"),
    "truncated MP3": (encode(make_speech(), kind="MP3")[:2_000], r"truncated: \d+ of 16000 frames are there"),
    **{
        f"a whole {kind}": (encode(make_speech(), kind=kind), "cannot be decoded: .*ffmpeg .*NEW.wav|an array")
        for kind in ("AIFF", "AU", "CAF", "MAT5", "NIST", "PAF", "SVX", "VOC", "W64", "XI")
        if soundfile.check_format(kind, "PCM_16")
    },
    "an AIFF behind an ID3 tag": (
        b"ID3\4\0\0\0\0\0\5" + bytes(5) + encode(make_speech(), kind="AIFF"),
        "cannot be decoded: AIFF; convert it with",
    ),
    "655 kHz": (encode(make_speech(), 655_350, "FLAC"), "655350 Hz, expected 4000 to 384000 Hz"),
    "3 kHz": (encode(make_speech(), 3_000), "3000 Hz, expected 4000 to 384000 Hz"),
    "65 channels": (encode(np.tile(make_speech(), 65)), "65 channels, expected 64 at most"),
    "20 ms": (encode(make_speech(0.02)), r"too short: 0.020 s, expected at least 0.1 s"),
    "121 s": (encode(np.zeros(121 * 8_000), 8_000), r"too long: 121.000 s, expected at most 120 s"),
    "all zeros": (encode(np.zeros(16_000)), "silent: below -80 dB"),
    "all but silent": (encode(make_speech() * 1e-5, subtype="FLOAT"), "silent: below -80 dB"),
    "channels that cancel": (
        encode(make_speech() * [1, -1], subtype="FLOAT"),
        "channels cancel when averaged; .*pan=mono",
    ),
    "ultrasound": (encode(np.hanning(192_000) * np.sin(np.arange(192_000) * 1.5), 192_000, subtype="FLOAT"), "silent"),
    "NaN": (with_sample(np.nan), "not finite"),
    "infinity": (with_sample(-np.inf), "not finite"),
    "the largest float": (with_sample(3e38), "not finite, or larger"),
    "a larger number than any audio": (with_sample(1e10), "not finite, or larger than any audio"),
}


@pytest.mark.parametrize(("content", "reason"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_bad_content_is_rejected_with_its_reason(tmp_path, content, reason):
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(decode.Rejected, match=reason):
        decode.load(path, **LIMITS)
    reason_of(path)


def test_two_hours_are_rejected_by_the_header_alone(tmp_path, monkeypatch):
    path = tmp_path / "x.wav"
    seconds, rate = 7_200, 48_000
    path.write_bytes(set_data_size(encode(make_speech(rate=rate), rate), seconds * rate * 2))
    os.truncate(path, 44 + seconds * rate * 2)  # a sparse file
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    assert reason_of(path) == "too long: 7200.000 s, expected at most 120 s"


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000, 32_001])
def test_a_wav_that_was_streamed_or_lacks_its_pad_byte_is_whole(tmp_path, size):
    content = encode(make_speech())
    streamed, _ = load_bytes(tmp_path, set_data_size(content, size))
    np.testing.assert_array_equal(streamed, load_bytes(tmp_path, content)[0])


def test_an_mp3_whose_header_counts_itself_is_whole(tmp_path):
    content = encode(make_speech(), kind="MP3")
    at = content.index(b"Xing") + 8  # the count of frames
    frames = struct.unpack(">I", content[at : at + 4])[0]
    samples, info = load_bytes(tmp_path, content[:at] + struct.pack(">I", frames + 1) + content[at + 4 :])
    assert info.duration_s == pytest.approx(1.0, abs=0.05)  # one MPEG frame is 0.036 s here


def test_the_extension_does_not_matter(tmp_path):
    for extension in ("mp3", "raw", "txt"):
        path = tmp_path / f"x.{extension}"
        path.write_bytes(encode(make_speech(), kind="FLAC"))
        assert decode.load(path, **LIMITS)[1].duration_s == 1.0


def test_what_is_no_file_is_rejected(tmp_path, monkeypatch):
    assert reason_of(tmp_path / "missing.wav") == "cannot be read: no such file or directory"
    (tmp_path / "folder.wav").mkdir()
    assert reason_of(tmp_path / "folder.wav") == "cannot be read: a folder"
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere.wav")
    assert reason_of(tmp_path / "link.wav") == "cannot be read: a broken link"
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    assert reason_of(tmp_path / "loop.wav") == "cannot be read: a broken link"
    os.mkfifo(tmp_path / "pipe.wav")  # nobody writes to it: opening it must not wait
    assert reason_of(tmp_path / "pipe.wav") == "cannot be read: a device or pipe, not a file"
    assert reason_of(Path("/dev/zero")) == "cannot be read: a device or pipe, not a file"
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
        server.bind("socket.wav")
        assert reason_of(tmp_path / "socket.wav") == "cannot be read: no such device or address"


@pytest.mark.parametrize("link", [False, True])
def test_a_link_and_a_path_with_odd_characters_are_read(tmp_path, link):
    path = tmp_path / "ä, \"b\"\n'c'.wav"
    path.write_bytes(encode(make_speech()))
    if link:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    assert decode.load(str(path), **LIMITS)[1].duration_s == 1.0


def test_a_file_without_permission_is_rejected(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(encode(make_speech()))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read anything
    try:
        assert reason_of(path) == "cannot be read: permission denied"
        with pytest.raises(DataError, match=r"x.wav: changed while .* \(now it cannot be read: permission denied\)"):
            decode.load(path, **LIMITS, sha256="0" * 64)
    finally:
        os.seteuid(user)


def test_the_content_must_be_the_manifests(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(encode(make_speech()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    decode.load(path, **LIMITS, sha256=digest)
    for other in ("0" * 64, ""):  # "": the index could not read it, and now it can be read
        with pytest.raises(DataError, match=r"x.wav: changed while the run was going on; run again"):
            decode.load(path, **LIMITS, sha256=other)
    path.unlink()
    with pytest.raises(DataError, match=r"x.wav: changed .* \(now it cannot be read: no such file"):
        decode.load(path, **LIMITS, sha256=digest)
    with pytest.raises(decode.Rejected, match="no such file"):
        decode.load(path, **LIMITS, sha256="")


@pytest.mark.parametrize("content", [b"", encode(make_speech(0.5))])
def test_a_file_that_changes_while_it_is_decoded_is_an_error(tmp_path, monkeypatch, content):
    path = tmp_path / "x.wav"
    path.write_bytes(encode(make_speech()))
    original = decode.read_recordings

    def decode_another(*arguments):
        path.write_bytes(content)
        return original(*arguments)

    monkeypatch.setattr(decode, "read_recordings", decode_another)
    with pytest.raises(DataError, match="changed while"):
        decode.load(path, **LIMITS, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_the_limits_are_inclusive(tmp_path):
    path = tmp_path / "x.wav"
    path.write_bytes(encode(make_speech(0.5)))
    decode.load(path, min_seconds=0.5, max_seconds=0.5, silence_db=-80)
    assert reason_of(path, min_seconds=0.501).startswith("too short")
    assert reason_of(path, max_seconds=0.499).startswith("too long")
    assert reason_of(path, silence_db=0).startswith("silent: below 0 dB")


ENCODED = {kind: encode(make_speech(0.3), kind=kind) for kind in ("WAV", "FLAC", "OGG", "MP3")}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(ENCODED)),
    flips=st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(1, 255)), max_size=4),
    keep=st.floats(0, 1),
)
def test_damaged_files_are_audio_or_rejected_and_nothing_else(tmp_path, kind, flips, keep):
    content = bytearray(ENCODED[kind])
    for at, bits in flips:
        content[at % len(content)] ^= bits
    path = tmp_path / "x"
    path.write_bytes(content[: round(keep * len(content))])
    try:
        samples, info = decode.load(path, **LIMITS)
    except decode.Rejected as reason:
        assert "\n" not in str(reason)
    else:
        assert np.isfinite(samples).all() and samples.ndim == 1
        assert np.isfinite([info.duration_s, info.peak, info.rms_db]).all()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.integers(4_000, 200_000),
    channels=st.integers(1, 8),
    frames=st.integers(20_000, 30_000),
    seed=st.integers(0),
)
def test_equal_channels_are_as_one_and_lengths_are_librosas(tmp_path, rate, channels, frames, seed):
    signal = np.random.default_rng(seed).uniform(-0.5, 0.5, frames).astype(np.float32)
    many, _ = load_bytes(tmp_path, encode(np.stack([signal] * channels, 1), rate, subtype="FLOAT"))
    one, _ = load_bytes(tmp_path, encode(signal, rate, subtype="FLOAT"))
    np.testing.assert_allclose(many, one, atol=1e-6)  # float32 means of up to 8 values
    assert len(one) == -(-frames * 16_000 // rate)
