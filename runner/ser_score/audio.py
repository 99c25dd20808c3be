"""Audio files as the encoder wants them: mono, 16 kHz, float32; or the reason why one cannot be used.

WAV, FLAC, OGG and MP3 are decoded by libsndfile; WebM, MP4, AMR, WMA and AAC, which browsers and phones record, by PyAV
(FFmpeg). The first bytes decide, not the name.
"""

import io
import math
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ser_score.errors import Rejected

RATE = 16_000
FORMATS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"}  # as libsndfile calls them
LOWEST_RATE, HIGHEST_RATE, MOST_CHANNELS = 4_000, 384_000, 64
MAX_AMPLITUDE = 2.0**31
BLOCK_VALUES = 1 << 20
UNKNOWN_BYTES, UNKNOWN_FRAMES = 0x7FFF_0000, 1 << 62
MP3_SLACK = 2 * 1152  # frames that a header may promise beyond what is there
# What FFmpeg reads: its demuxers, the decoders of audio that they may use, and which containers tell their length.
DEMUXERS = {"MP4": "mov", "WEBM": "matroska", "AMR": "amr", "WMA": "asf", "AAC": "aac"}
DECODERS = (
    *("aac", "ac3", "eac3", "alac", "flac", "opus", "vorbis", "amrnb", "amrwb", "mp2float", "mp3float"),
    *("wmav1", "wmav2", "wmapro", "wmalossless", "wmavoice", "pcm_alaw", "pcm_mulaw", "pcm_u8"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f64le"),
)
TELL_LENGTH = ("MP4", "WEBM", "WMA")
SLACK, MOST_PADDING = 0.25, 4096  # s by which a container may count more than there is; samples after the end
FULL_SCALE = {"uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}
_HEADER_PROMISE = re.compile(r"^\s*(?:data|data size|ssnd) *: (\d+) \(should be (\d+)\)", re.I | re.M)


@dataclass(frozen=True)
class Limits:
    """What audio must be like: the study's `audio` settings."""

    min_seconds: float
    max_seconds: float
    silence_db: float


def load(source: str | Path | bytes, limits: Limits) -> np.ndarray:
    """The samples, (n,), of a file or of its content; raises Rejected."""
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), len(source), limits)
    try:
        handle = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            os.close(handle)
            raise OSError(0, "a folder" if stat.S_ISDIR(mode) else "a device or pipe, not a file")
        with open(handle, "rb", buffering=0) as file:
            return _decode(file, os.fstat(handle).st_size, limits)
    except OSError as error:
        broken = os.path.islink(source) and not os.path.exists(source)
        raise Rejected(f"cannot be read: {'a broken link' if broken else str(error.strerror).lower()}") from None


def prepare(samples: np.ndarray, rate: int, limits: Limits) -> np.ndarray:
    """Samples, (n,) or (n, channels), at any rate: mixed down, at 16 kHz and within the limits; raises Rejected."""
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.dtype.kind != "f":
        raise Rejected("expected samples as an array of floats, (n,) or (n, channels), full scale 1")
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise Rejected(f"{rate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    mono = samples.astype(np.float32)
    return _finish(mono if mono.ndim == 1 else mono.mean(axis=1), rate, limits)


def measure_level(samples: np.ndarray) -> float:
    """The root mean square, dB relative to full scale."""
    return 10 * math.log10(max(float(np.dot(samples, samples)) / len(samples), 1e-20))


def _decode(file, size: int, limits: Limits) -> np.ndarray:
    if size == 0:
        raise Rejected("empty file")
    kind = find_format(file)
    file.seek(0)
    if kind is None:
        raise Rejected("cannot be decoded (is no WAV, FLAC, OGG or MP3)")
    mono, rate = _decode_av(file, kind, limits) if kind in DEMUXERS else _decode_sndfile(file, limits)
    return _finish(mono, rate, limits)


def find_format(file) -> str | None:
    """WAV, FLAC, OGG or MP3; one of DEMUXERS for what FFmpeg reads; None for anything else."""
    place = 0
    for _ in range(4):  # tags before an MP3
        file.seek(place)
        head = file.read(12)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        place += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE" and place == 0:
        return "WAV"
    if head[:4] == b"fLaC":
        return "FLAC"
    if head[:4] == b"OggS" and place == 0:
        return "OGG"
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0":  # MP3's frames, or AAC's
        return "MP3" if head[1] & 6 else "AAC"
    begins = {b"\x1a\x45\xdf\xa3": "WEBM", b"#!AM": "AMR", b"\x30\x26\xb2\x75": "WMA"}
    kind = "MP4" if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") else begins.get(head[:4])
    return kind if place == 0 else None


def _decode_sndfile(file, limits: Limits) -> tuple[np.ndarray, int]:
    try:
        with soundfile.SoundFile(file) as sound:
            if sound.format not in FORMATS:
                raise Rejected("cannot be decoded (is no WAV, FLAC, OGG or MP3)")
            _check_header(sound, limits.max_seconds)
            # After each read soundfile would seek to where it is, and an MP3 loses what goes on from its last frame.
            sound.seekable = lambda: False
            mono, done = np.empty(sound.frames, np.float32), 0
            size = BLOCK_VALUES // sound.channels
            while len(block := sound.read(min(size, len(mono) - done), dtype="float32", always_2d=True)):
                mono[done : done + len(block)] = block[:, 0] if sound.channels == 1 else block.mean(axis=1)
                done += len(block)
            if sound.frames - done > (MP3_SLACK if sound.format == "MP3" else 0):
                raise Rejected(f"truncated: {done} of {sound.frames} frames are there")
            return mono[:done], sound.samplerate
    except soundfile.LibsndfileError as error:
        cause = error.error_string.strip().rstrip(".").removeprefix("Error : ")
        raise Rejected(f"cannot be decoded (libsndfile: {cause})") from None


def _check_header(sound: soundfile.SoundFile, max_seconds: float) -> None:
    if sound.frames >= UNKNOWN_FRAMES:
        raise Rejected("its header does not say how long it is")
    duration = sound.frames / sound.samplerate
    if duration > max_seconds:
        raise Rejected(f"too long: {duration:.3f} s, expected at most {max_seconds:g} s")
    if not LOWEST_RATE <= sound.samplerate <= HIGHEST_RATE:
        raise Rejected(f"{sound.samplerate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    if sound.channels > MOST_CHANNELS:
        raise Rejected(f"{sound.channels} channels, expected {MOST_CHANNELS} at most")
    for promised, present in _HEADER_PROMISE.findall(sound.extra_info):
        if int(promised) < UNKNOWN_BYTES and int(present):
            frames = sound.frames * int(promised) // int(present)
            if frames > sound.frames:
                raise Rejected(f"truncated: {sound.frames} of {frames} frames are there")


def _decode_av(file, kind: str, limits: Limits) -> tuple[np.ndarray, int]:
    """The default audio stream of what a browser or a phone recorded, as it comes, at whatever rate; mixed down.

    The demuxer is named, never guessed, and may open no other file; only listed decoders are used.
    """
    import av

    options = {"codec_whitelist": ",".join(DECODERS), "protocol_whitelist": "none"}
    try:
        with av.open(file, format=DEMUXERS[kind], options=options, io_open=_refuse, metadata_errors="replace") as held:
            streams = held.streams.audio
            if not streams:
                raise Rejected("cannot be decoded: no audio in it")
            default = [stream for stream in streams if stream.disposition & av.stream.Disposition.default]
            stream = (default or streams)[0]
            if stream.codec_context is None or stream.codec_context.name not in DECODERS:
                raise Rejected("cannot be decoded: its codec is not read")
            stream.codec_context.thread_count = 1
            promised = float(stream.duration * stream.time_base) if stream.duration and kind in TELL_LENGTH else None
            mono, rate = _join_frames((frame for packet in held.demux(stream) for frame in packet.decode()), limits)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise Rejected(f"cannot be decoded: truncated or damaged (FFmpeg: {cause.lower()})") from None
    if promised is not None and rate:
        if promised - len(mono) / rate > SLACK:
            raise Rejected(f"truncated: {len(mono) / rate:.3f} s of {promised:.3f} s are there")
        total = round(promised * rate)
        mono = mono[: total if total < len(mono) <= total + MOST_PADDING else None]
    return mono, rate


def _refuse(*_):
    raise PermissionError("a recording opens no other files")


def _join_frames(frames, limits: Limits) -> tuple[np.ndarray, int]:
    parts, rate, total = [], 0, 0
    for frame in frames:
        rate, channels = rate or frame.sample_rate, frame.layout.nb_channels
        if frame.sample_rate != rate or not LOWEST_RATE <= rate <= HIGHEST_RATE or channels > MOST_CHANNELS:
            raise Rejected(f"{frame.sample_rate} Hz and {channels} channels, which change or are no speech's")
        total += frame.samples
        if total > limits.max_seconds * rate:
            raise Rejected(f"too long: expected at most {limits.max_seconds:g} s")
        values = frame.to_ndarray()
        values = values if frame.format.is_planar else values.reshape(-1, channels).T
        if scale := FULL_SCALE.get(values.dtype.name):
            values = (values.astype(np.float32) - (scale if values.dtype == np.uint8 else 0)) / np.float32(scale)
        parts.append(values[0] if channels == 1 else values.mean(axis=0))
    return np.concatenate(parts).astype(np.float32, copy=False) if parts else np.empty(0, np.float32), rate


def _finish(mono: np.ndarray, rate: int, limits: Limits) -> np.ndarray:
    """At 16 kHz and within the limits."""
    if len(mono) == 0:
        raise Rejected("no audio after the header")
    duration = len(mono) / rate
    if duration > limits.max_seconds:
        raise Rejected(f"too long: {duration:.3f} s, expected at most {limits.max_seconds:g} s")
    if duration < limits.min_seconds:
        raise Rejected(f"too short: {duration:.3f} s, expected at least {limits.min_seconds:g} s")
    samples = _resample(mono, rate)
    with np.errstate(over="ignore", invalid="ignore"):
        mean_square = float(np.dot(samples, samples)) / len(samples)
    peak = float(max(samples.max(), -samples.min()))
    if not (math.isfinite(mean_square) and peak <= MAX_AMPLITUDE):
        raise Rejected("samples that are not finite, or larger than any audio")
    if mean_square <= 10 ** (limits.silence_db / 10):
        raise Rejected(f"silent: below {limits.silence_db:g} dB")
    return samples


def _resample(mono: np.ndarray, rate: int) -> np.ndarray:
    """At 16 kHz, and as long as librosa makes it: rounded up, which soxr does not always do."""
    if rate == RATE:
        return mono
    samples = soxr.resample(mono, rate, RATE, quality="HQ")
    wanted = math.ceil(len(mono) * RATE / rate)
    return np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
