"""Audio files as the encoder wants them: mono, 16 kHz, float32; or the reason why a file cannot be used."""

import contextlib
import hashlib
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ser.audio.containers import FORMATS, find_format
from ser.audio.frames import SAMPLE_RATE
from ser.files import DataError

BLOCK_VALUES = 1 << 20  # decoded at a time and mixed down, so that channels never multiply a long file's memory
# What no speech is recorded at: a header that claims more makes megabytes of a file into gigabytes of memory.
LOWEST_RATE, HIGHEST_RATE, MOST_CHANNELS = 4_000, 384_000, 64
MAX_AMPLITUDE = 2.0**31  # float files may hold unscaled integers of any width; what is larger is no audio
# Header counts at or above this are what programs write that stream to a pipe and never learn the length.
UNKNOWN_BYTES, UNKNOWN_FRAMES = 0x7FFF_0000, 1 << 62
# Some encoders count the frame of an MP3's header as audio and leave out the decoder's delay: no sign of truncation.
MP3_SLACK = 2 * 1152
LATE = 0.01  # s by which a part may end after its file: sheets round
LEAD = 0.5  # s decoded before a part
CHANGED = "changed while the run was going on; run again"
_HEADER_PROMISE = re.compile(r"^\s*(?:data|data size|ssnd) *: (\d+) \(should be (\d+)\)", re.I | re.M)


class Rejected(Exception):
    """Audio that cannot be used; the message is the reason: one line, the same on every machine."""


@dataclass(frozen=True)
class Info:
    """Facts about an audio file."""

    duration_s: float
    sample_rate: int  # of the file, Hz
    channels: int  # of the file
    peak: float  # largest absolute value of the mono signal at 16 kHz; 1 is full scale
    rms_db: float  # its root mean square, dB relative to 1


def load(
    path: str | Path,
    min_seconds: float,
    max_seconds: float,
    silence_db: float,
    sha256: str | None = None,
    start: float | None = None,
    stop: float | None = None,
) -> tuple[np.ndarray, Info]:
    """Decode a file (WAV, FLAC, OGG, MP3; any rate and channels): mono samples, (n,) float32, and facts.

    With `start` or `stop` (seconds) the part from there, or to there: the samples of the file from round(start * rate)
    to before round(stop * rate), then treated as a file that holds nothing else. All limits are those of the part.

    Channels are averaged, then resampled with soxr's HQ, as `librosa.load(path, sr=16000)` does. Values over 1 stay.
    Raises Rejected for what is no whole, audible audio file within the limits. A file that ends early is told by its
    header's count, which Ogg does not have.

    With `sha256` (the index's digest of the content, "" where it could not be read), a file that is another one by
    now, at any moment until it is decoded, is a DataError: what is computed from it belongs to no manifest.
    """
    try:
        with _open(path) as file:
            before = _stamp(file)
            if sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise DataError(f"{path}: {CHANGED}")
            try:
                return _decode(file, min_seconds, max_seconds, silence_db, start, stop)
            finally:
                if sha256 is not None and _stamp(file) != before:
                    raise DataError(f"{path}: {CHANGED}")
    except OSError as error:
        reason = "a broken link" if os.path.islink(path) and not os.path.exists(path) else error.strerror.lower()
        if sha256:  # the index could read it
            raise DataError(f"{path}: {CHANGED} (now it cannot be read: {reason})") from None
        raise Rejected(f"cannot be read: {reason}") from None


def _open(path: str | Path):
    """Open a regular file, unbuffered; a pipe without a writer does not block."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise OSError(0, "a folder" if stat.S_ISDIR(mode) else "a device or pipe, not a file")
    return open(handle, "rb", buffering=0)


def _stamp(file) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _decode(
    file, min_seconds: float, max_seconds: float, silence_db: float, start: float | None, stop: float | None
) -> tuple[np.ndarray, Info]:
    if os.fstat(file.fileno()).st_size == 0:
        raise Rejected("empty file")
    if find_format(file) is None:
        raise Rejected("cannot be decoded (is no WAV, FLAC, OGG or MP3)")
    file.seek(0)
    try:
        # By descriptor: libsndfile then reads by itself, and never guesses a format from a file name.
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            rate, channels = sound.samplerate, sound.channels
            if sound.format not in FORMATS:
                raise Rejected("cannot be decoded (is no WAV, FLAC, OGG or MP3)")
            _check_header(sound)
            first, count = _find_part(sound, start, stop)
            if count / rate > max_seconds:
                raise Rejected(f"too long: {count / rate:.3f} s, expected at most {max_seconds:g} s")
            mono = _mix_down(sound, first, count)
            if count - len(mono) > (MP3_SLACK if sound.format == "MP3" else 0):
                raise Rejected(f"truncated: {first + len(mono)} of {sound.frames} frames are there")
    except soundfile.LibsndfileError as error:
        cause = error.error_string.strip().rstrip(".").removeprefix("Error : ")
        raise Rejected(f"cannot be decoded (libsndfile: {cause})") from None
    duration = len(mono) / rate
    if len(mono) == 0:
        raise Rejected("no audio after the header")
    if duration < min_seconds:
        raise Rejected(f"too short: {duration:.3f} s, expected at least {min_seconds:g} s")
    samples = _resample(mono, rate)
    with np.errstate(over="ignore", invalid="ignore"):
        mean_square = float(np.dot(samples, samples)) / len(samples)  # not finite if any sample is not
    peak = float(max(samples.max(), -samples.min()))
    if not (math.isfinite(mean_square) and peak <= MAX_AMPLITUDE):
        raise Rejected("samples that are not finite, or larger than any audio")
    if mean_square <= 10 ** (silence_db / 10):
        raise Rejected(f"silent: below {silence_db:g} dB")
    return samples, Info(duration, rate, channels, peak, 10 * math.log10(mean_square))


def _check_header(sound: soundfile.SoundFile) -> None:
    """Reject by the header alone what is out of range, or shorter than its header says."""
    if sound.frames >= UNKNOWN_FRAMES:
        raise Rejected("its header does not say how long it is")
    if not LOWEST_RATE <= sound.samplerate <= HIGHEST_RATE:
        raise Rejected(f"{sound.samplerate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    if sound.channels > MOST_CHANNELS:
        raise Rejected(f"{sound.channels} channels, expected {MOST_CHANNELS} at most")
    # For formats without compression libsndfile corrects the count by the file's size, and says so in its log.
    for promised, present in _HEADER_PROMISE.findall(sound.extra_info):
        if int(promised) < UNKNOWN_BYTES and int(present):
            frames = sound.frames * int(promised) // int(present)
            if frames > sound.frames:
                raise Rejected(f"truncated: {sound.frames} of {frames} frames are there")


def _find_part(sound: soundfile.SoundFile, start: float | None, stop: float | None) -> tuple[int, int]:
    """The first frame of a part, and how many it has."""
    rate, total = sound.samplerate, sound.frames
    first = 0 if start is None else round(start * rate)
    end = total if stop is None else round(stop * rate)
    if end > total + LATE * rate or first >= max(total, 1):
        part = f"the part from {first / rate:g} to {end / rate:g} s"
        raise Rejected(f"the file ends at {total / rate:.3f} s, before {part}")
    return first, max(0, min(end, total) - first)


def _mix_down(sound: soundfile.SoundFile, first: int, count: int) -> np.ndarray:
    """The mean over channels of the frames from `first` that are there, (count or less,) float32."""
    # After each read soundfile would seek to where it is, and an MP3 then loses what its next frames have in the last.
    sound.seekable = lambda: False
    if first:
        _skip_to(sound, first)
    mono, done = np.empty(count, np.float32), 0
    while len(block := _read(sound, len(mono) - done)):
        mono[done : done + len(block)] = block[:, 0] if sound.channels == 1 else block.mean(axis=1)
        done += len(block)
    return mono[:done]


def _skip_to(sound: soundfile.SoundFile, first: int) -> None:
    """Go to a frame: by a seek where libsndfile then reads what it would read on its way there."""
    left = first
    if sound.format != "MP3":
        with contextlib.suppress(soundfile.LibsndfileError):  # a few codecs in WAV cannot: it stays at the beginning
            left -= sound.seek(max(0, first - round(LEAD * sound.samplerate)))
    while left and (count := len(_read(sound, left))):
        left -= count


def _read(sound: soundfile.SoundFile, most: int) -> np.ndarray:
    """The next frames, a block of them at most, (frames, channels) float32."""
    return sound.read(min(BLOCK_VALUES // sound.channels, most), dtype="float32", always_2d=True)


def _resample(mono: np.ndarray, rate: int) -> np.ndarray:
    """At 16 kHz, and as long as librosa makes it: rounded up, which soxr does not always do."""
    if rate == SAMPLE_RATE:
        return mono
    samples = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    wanted = math.ceil(len(mono) * SAMPLE_RATE / rate)
    return np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
