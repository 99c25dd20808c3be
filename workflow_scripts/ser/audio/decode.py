"""Audio files as the encoder wants them: mono, 16 kHz, float32; or the reason why a file cannot be used."""

import hashlib
import logging
import math
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from ser.audio.frames import SAMPLE_RATE
from ser.audio.limits import Part, Rejected, Sound
from ser.audio.recordings import read_recordings
from ser.files import DataError

__all__ = ["Info", "Rejected", "load"]

MAX_AMPLITUDE = 2.0**31  # float files may hold unscaled integers of any width; what is larger is no audio
CANCELLED = 0.01  # what is left of channels that cancel each other, of their loudest value
CHANGED = "changed while the run was going on; run again"

SETTLED_NS = 1_000_000_000  # a file's age from which its times tell of any change

log = logging.getLogger(__name__)
_hashed: set[tuple] = set()


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
    """Decode a file (any format of `containers`, any rate and channels): mono samples, (n,) float32, and facts.

    With `start` or `stop` (seconds) the part from there, or to there: the samples of the file from round(start * rate)
    to before round(stop * rate), then treated as a file that holds nothing else. All limits are those of the part.

    Channels are averaged, then resampled with soxr's HQ, as `librosa.load(path, sr=16000)` does. Values over 1 stay.
    Raises Rejected for what is no whole, audible audio file within the limits. A file that ends early is told by its
    header's count, or by a frame that is cut.

    With `sha256` (the index's digest of the content, "" where it could not be read), a file that is another one by
    now, at any moment until it is decoded, is a DataError: what is computed from it belongs to no manifest.
    """
    part = Part(start or 0.0, stop, max_seconds)
    try:
        with _open(path) as file:
            before = _stamp(file)
            is_part = start is not None or stop is not None
            if sha256 is not None and not _holds(file, path, before, sha256, is_part):
                raise DataError(f"{path}: {CHANGED}")
            try:
                sound = read_recordings(file, part)
                if sound.note:
                    log.warning("%s: %s", path, sound.note)
                return _check(sound, min_seconds, silence_db)
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


def _holds(file, path: str | Path, stamp: tuple, sha256: str, is_part: bool) -> bool:
    """Whether a file has the content of that digest. One of which parts are read, many of an hour, is hashed once.

    Until its size or times change: one that was written just now could change within a clock's tick.
    """
    seen = (str(path), *stamp, sha256)
    if seen in _hashed:
        return True
    if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
        return False
    if is_part and stamp[2] < time.time_ns() - SETTLED_NS:
        _hashed.add(seen)
    return True


def _stamp(file) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _check(sound: Sound, min_seconds: float, silence_db: float) -> tuple[np.ndarray, Info]:
    """At 16 kHz, with its facts; Rejected if it is too short, silent, or no audio."""
    if len(sound.mono) == 0:
        raise Rejected("no audio after the header")
    duration = len(sound.mono) / sound.rate
    if duration < min_seconds:
        raise Rejected(f"too short: {duration:.3f} s, expected at least {min_seconds:g} s")
    samples = _resample(sound.mono, sound.rate)
    with np.errstate(over="ignore", invalid="ignore"):
        mean_square = float(np.dot(samples, samples)) / len(samples)  # not finite if any sample is not
    peak = float(max(samples.max(), -samples.min()))
    if not (math.isfinite(mean_square) and peak <= MAX_AMPLITUDE):
        raise Rejected("samples that are not finite, or larger than any audio")
    if mean_square <= 10 ** (silence_db / 10):
        left = float(np.abs(sound.mono).max())
        if sound.channels > 1 and left < CANCELLED * sound.loudest and sound.loudest > 10 ** (silence_db / 20):
            raise Rejected("channels cancel when averaged; keep one: ffmpeg -i FILE -af pan=mono|c0=c0 NEW.wav")
        raise Rejected(f"silent: below {silence_db:g} dB")
    return samples, Info(duration, sound.rate, sound.channels, peak, 10 * math.log10(mean_square))


def _resample(mono: np.ndarray, rate: int) -> np.ndarray:
    """At 16 kHz, and as long as librosa makes it: rounded up, which soxr does not always do."""
    if rate == SAMPLE_RATE:
        return mono
    samples = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
    wanted = math.ceil(len(mono) * SAMPLE_RATE / rate)
    return np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
