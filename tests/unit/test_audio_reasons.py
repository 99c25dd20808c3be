"""What is no audio is called by its name, with the command that fetches or converts it."""

import io
import re
import struct
import zipfile

import numpy as np
import pytest
import soundfile
from made_audio import encode, make_speech

from ser.audio import decode

LIMITS = {"min_seconds": 0.1, "max_seconds": 30, "silence_db": -80}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 12345\n"
SPEECH = make_speech(0.5, 16_000, 2)


def make_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.wav", b"RIFF")
    return file.getvalue()


def make(kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, SPEECH, 16_000, format=kind)
    return file.getvalue()


def protect(content: bytes) -> bytes:
    """As a shop does: the samples' entry is called otherwise, and they are other bytes."""
    at = content.index(b"mdat") + 4
    noise = np.random.default_rng(0).bytes(len(content))
    content = content[:at] + noise[: content.index(b"moov") - 4 - at] + content[content.index(b"moov") - 4 :]
    return content.replace(b"mp4a", b"drms", 1)


FOREIGN = {
    "an empty file": (b"", "empty file"),
    "HTML": (b"\n<!DOCTYPE html>\n<html><title>404</title>", "an HTML page: a download that failed; .*curl -fLO LINK"),
    "HTML of old": (b"<HTML><HEAD>", "an HTML page"),
    "Git LFS": (POINTER, "a Git LFS pointer in place of the file; fetch it with: git lfs pull"),
    "AppleDouble": (
        b"\0\5\x16\7\0\2\0\0Mac OS X        ",
        r'an AppleDouble file, .* find FOLDER -name "\._\*" -delete',
    ),
    "a zip": (make_zip(), "a zip archive; unpack it and list the files that are in it: unzip FILE"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(99), "an archive; unpack it .*: bsdtar -xf FILE"),
    "a tar archive": (b"a.wav".ljust(257, b"\0") + b"ustar\x0000" + bytes(248), "an archive"),
    "a playlist": (b"#EXTM3U\na.wav\n", "a playlist; list the files that it names"),
    "AIFF": (make("AIFF"), "AIFF; convert it with: ffmpeg -i FILE NEW.wav"),
    "CAF": (make("CAF"), "CAF; convert it with"),
    "AU": (make("AU"), "AU; convert it with"),
    "raw PCM": (
        (SPEECH * 32767).astype("<i2").tobytes(),
        "none of WAV, FLAC, .*; samples without a header can be converted, .*: ffmpeg -f s16le -ar 16000 -ac 1 -i FILE",
    ),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3", "a document or a picture"),
    "JSON": (b'{"error": "no such file"}', "JSON or XML"),
    "a note": ("Ton fehlt – später".encode(), "text, not audio"),
    "DRM": (protect(encode(SPEECH, 16_000, "mp4", "aac")), r"protected \(DRM\); export it from the program"),
}


@pytest.mark.parametrize(("content", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_audio_is_called_by_its_name(tmp_path, content, reason):
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(decode.Rejected) as caught:
        decode.load(tmp_path / "x.wav", **LIMITS)
    assert re.search(reason, str(caught.value)), caught.value
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


def test_channels_that_cancel_are_not_silent(tmp_path):
    def reason_of(samples):
        soundfile.write(tmp_path / "x.wav", samples, 16_000, subtype="FLOAT")
        with pytest.raises(decode.Rejected) as caught:
            decode.load(tmp_path / "x.wav", **LIMITS)
        return str(caught.value)

    one = SPEECH[:, :1]
    cancel = "channels cancel when averaged; keep one: ffmpeg -i FILE -af pan=mono|c0=c0 NEW.wav"
    assert reason_of(np.hstack([one, -one])) == cancel
    assert reason_of(np.hstack([one, -one * np.float32(1.00001)])) == cancel
    assert reason_of(np.hstack([one, -one]) * np.float32(1e-5)) == "silent: below -80 dB"
    assert reason_of(np.zeros((8000, 2))) == "silent: below -80 dB"
    half = np.hstack([one, one * 0])
    soundfile.write(tmp_path / "x.wav", half, 16_000)
    assert decode.load(tmp_path / "x.wav", **LIMITS)[1].channels == 2


def test_a_wav_without_samples_that_can_be_found(tmp_path):
    """Behind a chunk of four gigabytes; none at all."""
    wav = make("WAV")
    for content in (wav[:12] + b"LIST" + struct.pack("<I", 0xFFFF_FFF0) + wav[12:], wav[:36]):
        (tmp_path / "x.wav").write_bytes(content)
        with pytest.raises(decode.Rejected, match="cannot be decoded|no audio|truncated"):
            decode.load(tmp_path / "x.wav", **LIMITS)
