"""Reading by FFmpeg, through PyAV: what libsndfile does not read, or not all of.

The demuxer is named, never guessed, and may open no other file; only the decoders of audio that are listed are used.
"""

from collections.abc import Iterator

import av
import av.error
import numpy as np

from ser.audio.containers import CONVERT, Piece
from ser.audio.limits import Part, Rejected, Sound, Span, check_header

DEMUXERS = {
    "WAV": "wav",
    "FLAC": "flac",
    "OGG": "ogg",
    "MP3": "mp3",
    "MP4": "mov",
    "WEBM": "matroska",
    "AMR": "amr",
    "WMA": "asf",
    "AAC": "aac",
}
DECODERS = (
    *("aac", "ac3", "eac3", "alac", "flac", "opus", "vorbis", "speex", "amrnb", "amrwb", "gsm", "gsm_ms"),
    *("mp1float", "mp2float", "mp3float", "wmav1", "wmav2", "wmapro", "wmalossless", "wmavoice"),
    *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "g722", "g726", "pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
)
# Containers that say how long their audio is. Those of raw frames do not: FFmpeg then guesses from the first ones.
_TELL_LENGTH = {"MP4", "WEBM", "WMA"}
_SLACK = 0.25  # s by which a container may count more than there is: delays, and frames of up to 0.1 s
_MOST_PADDING = 4096  # samples at the end of the last frame that are no audio
_DRM = {
    "MP4": (b"drms", b"enca"),
    "WMA": (bytes.fromhex("fbb31122 23bdd211 b4b700a0 c955fc6e"), bytes.fromhex("14e68a29 2226174c b935dae0 7ee9289c")),
}
_DRM_BYTES = 1 << 22  # at both ends of a file, in which its header is
_FULL_SCALE = {"uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}


def read(file: Piece, kind: str, part: Part, span: Span | None = None) -> Sound:
    """A part of a file; `span`: its length, where it was counted."""
    file.seek(0)
    options = {"codec_whitelist": ",".join(DECODERS), "protocol_whitelist": "none"}
    try:
        with av.open(
            file, format=DEMUXERS[kind], options=options, io_open=_refuse, metadata_errors="replace"
        ) as container:
            stream, note = _choose_stream(container)
            promised = _find_length(container, stream) if kind in _TELL_LENGTH else None
            return _decode(_decode_frames(container, stream), part, promised, span, note)
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        places = 0, max(0, file.size - _DRM_BYTES)
        if any(sign in file.read_at(place, _DRM_BYTES) for place in places for sign in _DRM.get(kind, ())):
            raise Rejected("cannot be decoded: protected (DRM); export it from the program that plays it") from None
        cause = getattr(error, "strerror", None) or str(error)
        raise Rejected(f"cannot be decoded: truncated or damaged (FFmpeg: {cause.lower()})") from None


def _refuse(*_):
    raise PermissionError("a recording opens no other files")


def _choose_stream(container: av.container.InputContainer) -> tuple[av.AudioStream, str]:
    """The default one of a container's streams of audio, else the first; and what a user should know of that."""
    streams = container.streams.audio
    if not streams:
        raise Rejected("cannot be decoded: no audio in it")
    default = [stream for stream in streams if stream.disposition & av.stream.Disposition.default]
    stream = (default or streams)[0]
    codec = stream.codec_context
    if codec is None or codec.name not in DECODERS:
        name = "unknown" if codec is None else codec.name
        raise Rejected(f"cannot be decoded: its codec {name} is not read; {CONVERT}")
    codec.thread_count = 1  # as much as a job's threads ask for is decoded at once
    note = f"{len(streams)} streams of audio, of which number {streams.index(stream) + 1} is read"
    return stream, note if len(streams) > 1 else ""


def _find_length(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    """Seconds of audio that a container promises, where it says so."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def _decode_frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        yield from packet.decode()


def _decode(frames: Iterator[av.AudioFrame], part: Part, promised: float | None, span: Span | None, note: str) -> Sound:
    blocks, count, rate, channels, first, most, loudest = [], 0, 0, 0, 0, 0.0, 0.0
    for frame in frames:
        if not rate:
            rate, channels = frame.sample_rate, frame.layout.nb_channels
            first, most = part.find_first(rate), part.find_most(rate)
            if part.stop is not None:
                part.check_length(round(most) - first, rate)
        if frame.sample_rate != rate:
            raise Rejected(f"changes midway from {rate} to {frame.sample_rate} Hz; {CONVERT}")
        check_header(rate, frame.layout.nb_channels)
        count += frame.samples
        if count > first:
            values = _scale(frame)[:, max(0, first - (count - frame.samples)) :]
            loudest = max(loudest, float(values.max()), -float(values.min()))
            blocks.append(values[0] if len(values) == 1 else values.mean(axis=0))
        if count > most:
            if part.stop is None:
                raise Rejected(f"too long: expected at most {part.longest:g} s")
            end = round(most)
            break
    else:
        end = part.find_end(_find_end(count, rate, promised, span), rate or 1)
    mono = np.concatenate(blocks)[: end - first] if blocks else np.empty(0, np.float32)
    return Sound(mono, rate, channels, loudest, note)


def _find_end(count: int, rate: int, promised: float | None, span: Span | None) -> int:
    """The frames of a file of which `count` were decoded; Rejected where it should have had more."""
    if not count:
        return 0
    if span and count / rate not in span:
        length = f"{max(0.0, span.low):.3f} to {span.high:.3f} s by its frames"
        raise Rejected(f"damaged: {count / rate:.3f} s can be decoded, but it has {length}")
    if promised is None:
        return count
    if promised - count / rate > _SLACK:
        raise Rejected(f"truncated: {count / rate:.3f} s of {promised:.3f} s are there")
    total = round(promised * rate)
    return total if total < count <= total + _MOST_PADDING else count


def _scale(frame: av.AudioFrame) -> np.ndarray:
    """The samples of a frame, (channels, n) float32."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if scale := _FULL_SCALE.get(values.dtype.name):
        values = (values.astype(np.float32) - (scale if values.dtype == np.uint8 else 0)) / np.float32(scale)
    return values.astype(np.float32, copy=False)
