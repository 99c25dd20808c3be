"""Reading by libsndfile: WAV, FLAC, Ogg with Vorbis or Opus, MP3."""

import contextlib
import math

import numpy as np
import soundfile

from ser.audio.limits import BLOCK_VALUES, Part, Rejected, Sound, Span, check_header

FORMATS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"}  # as libsndfile calls them
UNKNOWN_FRAMES = 1 << 62  # what libsndfile says where it does not know
LEAD = 0.5  # s decoded before a part


def read(file, part: Part, span: Span | None = None) -> Sound | None:
    """A part of a file, by its descriptor or as an object; None if another decoder has to read it.

    So it is where libsndfile finds another length than `span`, in which its frames or pages were counted.
    """
    try:
        with soundfile.SoundFile(file, closefd=False) as sound:
            if sound.format not in FORMATS:
                return None
            rate, channels, total = sound.samplerate, sound.channels, sound.frames
            if total >= UNKNOWN_FRAMES:
                raise Rejected("its header does not say how long it is")
            if span:
                if total / rate < span.low:
                    return None
                total = min(total, math.floor(span.high * rate))
            first, end = part.find_first(rate), part.find_end(total, rate)
            part.check_length(end - first, rate)
            check_header(rate, channels)
            mono, loudest = _mix_down(sound, first, end - first)
            if len(mono) < end - first:
                if not span:
                    raise Rejected(f"truncated: {first + len(mono)} of {total} frames are there")
                total = first + len(mono)
                if total / rate not in span:
                    return None
                part.find_end(total, rate)
            return Sound(mono, rate, channels, loudest)
    except soundfile.LibsndfileError as error:
        if span:
            return None
        cause = error.error_string.strip().rstrip(".").removeprefix("Error : ")
        raise Rejected(f"cannot be decoded (libsndfile: {cause})") from None


def _mix_down(sound: soundfile.SoundFile, first: int, count: int) -> tuple[np.ndarray, float]:
    """The mean over channels of the frames from `first` that are there, (count or less,) float32; the loudest value."""
    # After each read soundfile would seek to where it is, and an MP3 then loses what its next frames have in the last.
    sound.seekable = lambda: False
    if first:
        _skip_to(sound, first)
    mono, done, loudest = np.empty(count, np.float32), 0, 0.0
    while len(block := _read(sound, len(mono) - done)):
        mono[done : done + len(block)] = block[:, 0] if sound.channels == 1 else block.mean(axis=1)
        if sound.channels > 1:
            loudest = max(loudest, float(block.max()), -float(block.min()))
        done += len(block)
    return mono[:done], loudest


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
