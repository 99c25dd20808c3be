"""Samples of speech: read, cut, trimmed, stretched, and coloured by other rooms and microphones."""

import io
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000  # Hz


def run(*command: str, sound: bytes | None = None) -> bytes:
    return subprocess.run(command, input=sound, capture_output=True, check=True).stdout


def read(file: Path | io.BytesIO) -> np.ndarray:
    """A sound file as mono samples at 16 kHz."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)


def read_all(files: list[Path]) -> list[np.ndarray]:
    """Sound files of one folder. Those of G.722 have no header, so that one process can decode them all."""
    if files and files[0].suffix == ".g722":
        data = [file.read_bytes() for file in files]
        wav = run("ffmpeg", "-v", "error", "-f", "g722", "-i", "-", "-f", "wav", "-", sound=b"".join(data))
        return np.split(read(io.BytesIO(wav)), np.cumsum([2 * len(d) for d in data])[:-1])  # 2 samples a byte
    return [read(file) for file in files]


def trim(samples: np.ndarray) -> np.ndarray:
    """Samples without the silence before and after."""
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=1e-4))
    margin = SAMPLE_RATE // 20
    return samples[max(loud[0] - margin, 0) : loud[-1] + margin] if len(loud) else samples[:0]


def share_of_sound(samples: np.ndarray) -> float:
    """How much of it is not silence: frames of 50 ms above -20 dB of the whole's RMS."""
    power = np.mean(samples[: len(samples) // 800 * 800].reshape(-1, 800) ** 2, axis=1)
    return float(np.mean(power > 0.01 * power.mean()))


def cut(samples: np.ndarray, longest: float) -> list[np.ndarray]:
    """Samples in pieces of at most `longest` seconds, cut where they are quietest."""
    most = int(longest * SAMPLE_RATE)
    if len(samples) <= most:
        return [samples]
    power = np.convolve(samples**2, np.ones(800) / 800, mode="same")
    place = most // 3 + int(np.argmin(power[most // 3 : most]))
    return [samples[:place], *cut(samples[place:], longest)]


def stretch(samples: np.ndarray, speed: float, tempo: float) -> np.ndarray:
    """Formants and pitch moved by the factor `speed`, and the rate by `tempo` and `speed` together."""
    raw = ["-t", "raw", "-e", "float", "-b", "32", "-r", str(SAMPLE_RATE), "-c", "1", "-"]
    effects = ["speed", f"{speed:.4f}", "rate", str(SAMPLE_RATE), "tempo", "-s", f"{tempo:.4f}"]
    sound = (0.5 * samples).astype("<f4").tobytes()  # headroom
    return np.frombuffer(run("sox", "-D", *raw, *raw, *effects, sound=sound), "<f4")


def colour(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another microphone, room and background, each at random."""
    n = len(samples)
    frequency = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    octave = np.log2(np.maximum(frequency, 60) / 60)
    gain = np.interp(octave, np.linspace(0, 7.1, 9), rng.normal(0, 4, 9))  # dB
    if rng.random() < 0.3:
        gain -= 24 * np.maximum(0, np.log2(np.maximum(frequency, 1) / rng.uniform(3000, 7000)))
    if rng.random() < 0.3:
        gain -= 18 * np.maximum(0, np.log2(rng.uniform(100, 350) / np.maximum(frequency, 10)))
    spectrum = np.fft.rfft(samples) * 10 ** (gain / 20)
    samples = np.fft.irfft(spectrum, n)
    if rng.random() < 0.5:
        decay = rng.uniform(0.08, 0.5)  # seconds to -60 dB
        t = np.arange(int(decay * SAMPLE_RATE)) / SAMPLE_RATE
        room = rng.normal(0, 1, len(t)) * 10 ** (-3 * t / decay)
        room *= rng.uniform(0.1, 0.7) / np.linalg.norm(room)
        room[0] = 1
        size = 1 << (n + len(t)).bit_length()
        samples = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(room, size), size)[:n]
    if rng.random() < 0.8:
        slope = rng.uniform(0, 1.2)  # white to brown
        noise = np.fft.irfft(np.fft.rfft(rng.normal(0, 1, n)) / np.maximum(frequency, 50) ** slope, n)
        snr = rng.uniform(15, 40)  # dB
        samples = samples + noise / noise.std() * samples.std() * 10 ** (-snr / 20)
    return samples
