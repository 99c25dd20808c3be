"""Recordings in the formats that phones and the web make, by FFmpeg (PyAV)."""

import io

import av
import numpy as np
import pytest

from ser.audio import decode

LIMITS = {"min_seconds": 0.1, "max_seconds": 10, "silence_db": -80}


def make_speech(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Something with a spectrum that changes all the time, different in each channel, (n, channels) float32."""
    time = np.arange(round(seconds * rate)) / rate
    swells = 0.5 + 0.5 * np.sin(2 * np.pi * 1.3 * time) ** 2
    tones = [np.sin(2 * np.pi * (180 + 90 * channel + 40 * np.sin(3 * time)) * time) for channel in range(channels)]
    noise = np.random.default_rng(1).normal(0, 0.01, (len(time), channels))
    return (0.25 * swells[:, None] * np.stack(tones, 1) + noise).astype(np.float32)


class _Pipe(io.RawIOBase):
    """A file that nobody can go back in, as a pipe: a length that is known at the end is written nowhere."""

    def __init__(self):
        self.content = b""

    def writable(self):
        return True

    def write(self, content):
        self.content += bytes(content)
        return len(content)


def encode(samples: np.ndarray, rate: int, container: str, codec: str, piped: bool = False, **settings) -> bytes:
    """`samples`, (n, channels) or a list of such for several streams of audio, as a file of a container and codec.

    Args:
        settings: `options` of the container, those of the `coder`, `bits` of a sample, `bit_rate`, `video` (a stream
            of pictures beside it)
    """
    streams = samples if isinstance(samples, list) else [samples]
    file = _Pipe() if piped else io.BytesIO()
    with av.open(file, "w", format=container, options=settings.get("options", {})) as out:
        if settings.get("video"):
            pictures = out.add_stream(settings["video"], rate=10)
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        coders = [_add_stream(out, codec, rate, each.shape[1], settings) for each in streams]
        if settings.get("video"):
            for number in range(10 * len(streams[0]) // rate):
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 8, np.uint8), "rgb24")
                out.mux(pictures.encode(picture))
            out.mux(pictures.encode(None))
        for coder, each in zip(coders, streams, strict=True):
            _encode_stream(out, coder, each, rate)
    return file.content if piped else file.getvalue()


def _add_stream(out, codec: str, rate: int, channels: int, settings: dict):
    coder = out.add_stream(codec, rate=rate, layout="mono" if channels == 1 else "stereo")
    coder.bit_rate = settings.get("bit_rate", 96_000)
    if settings.get("coder"):
        coder.codec_context.options = settings["coder"]
    if settings.get("bits") == 32:
        coder.codec_context.options = {"strict": "experimental"}
        coder.codec_context.format = "s32"
    return coder


def _encode_stream(out, coder, samples: np.ndarray, rate: int) -> None:
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", layout)
    frame.sample_rate, frame.pts = rate, 0
    resampler = av.AudioResampler(coder.format, layout, rate, frame_size=coder.codec_context.frame_size or None)
    for each in [*resampler.resample(frame), *resampler.resample(None)]:
        out.mux(coder.encode(each))
    out.mux(coder.encode(None))


def load_bytes(folder, content: bytes, **settings) -> tuple[np.ndarray, decode.Info]:
    """What the workflow decodes of a file with this content, within `LIMITS` unless `settings` say otherwise."""
    (folder / "x").write_bytes(content)
    return decode.load(folder / "x", **LIMITS | settings)


def reason_of(folder, content: bytes, **settings) -> str:
    with pytest.raises(decode.Rejected) as caught:
        load_bytes(folder, content, **settings)
    return str(caught.value)
