"""Decoding: each format against the program ffmpeg, on one core, both in the same run by turns.

    python benchmarks/decode.py --ffmpeg PATH [--hours 3] [--minutes 10]

`--hours` of made audio are shared between the formats, in files of `--minutes` each; mono, 16 kHz, float32 is what both
make of it. ffmpeg (of the system, or of the package imageio-ffmpeg) is a process for each file, as a script would call
it. Times are processor seconds, of the process and of its children, files in the page cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow_scripts"), str(ROOT / "tests")]

from made_audio import encode, make_speech  # noqa: E402

from ser.audio import decode  # noqa: E402

LIMITS = {"min_seconds": 0.1, "max_seconds": 36_000, "silence_db": -80}
# format: rate, channels, container, codec, settings
FORMATS = {
    "WAV": (44_100, 2, "wav", "pcm_s16le", {}),
    "WAV, 16 kHz": (16_000, 1, "wav", "pcm_s16le", {}),
    "FLAC": (44_100, 2, "flac", "flac", {}),
    "FLAC to a pipe": (44_100, 2, "flac", "flac", {"piped": True}),
    "FLAC, 32 bits": (44_100, 2, "flac", "flac", {"bits": 32}),
    "Ogg, Opus": (48_000, 2, "ogg", "libopus", {}),
    "Ogg, FLAC": (44_100, 2, "ogg", "flac", {}),
    "MP3": (44_100, 2, "mp3", "libmp3lame", {}),
    "MP3 without a count, VBR": (
        *(44_100, 2, "mp3", "libmp3lame"),
        {"options": {"write_xing": "0"}, "coder": {"flags": "+qscale", "global_quality": "472"}},
    ),
    "MP3 in a WAV": (44_100, 2, "wav", "libmp3lame", {}),
    "M4A": (44_100, 2, "ipod", "aac", {}),
    "Apple Lossless": (44_100, 2, "ipod", "alac", {}),
    "WebM": (48_000, 2, "webm", "libopus", {"piped": True}),
    "WMA": (44_100, 2, "asf", "wmav2", {}),
    "AMR": (8_000, 1, "amr", "libopencore_amrnb", {"bit_rate": 12_200}),
}


def decode_ours(path: Path) -> int:
    return len(decode.load(path, **LIMITS)[0])


def decode_by_program(path: Path, ffmpeg: str) -> int:
    command = [ffmpeg, "-v", "error", "-threads", "1", "-i", path, "-map", "0:a:0", "-ac", "1", "-ar", "16000"]
    made = subprocess.run([*command, "-f", "f32le", "-"], capture_output=True, check=True)
    return len(made.stdout) // 4


def take_seconds(run, *arguments) -> tuple[float, int]:
    """Processor seconds of this process and of its children, and what `run` returns."""
    before = os.times()
    found = run(*arguments)
    after = os.times()
    return sum(after[:4]) - sum(before[:4]), found


def measure(path: Path, ffmpeg: str, repetitions: int) -> tuple[float, float, int, int]:
    ours, theirs = [], []
    for _ in range(repetitions):
        seconds, samples = take_seconds(decode_ours, path)
        ours.append(seconds)
        seconds, expected = take_seconds(decode_by_program, path, ffmpeg)
        theirs.append(seconds)
    return median(ours), median(theirs), samples, expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--minutes", type=float, default=12.0, help="length of a file")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    print("| format | audio, min | ours, s | ffmpeg, s | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        for name, (rate, channels, container, codec, settings) in FORMATS.items():
            minutes = min(options.minutes, options.hours * 60 / len(FORMATS))
            content = encode(make_speech(minutes * 60, rate, channels), rate, container, codec, **settings)
            path.write_bytes(content)
            ours, theirs, samples, expected = measure(path, options.ffmpeg, options.repetitions)
            # ffmpeg leaves padding at the end of some formats, and lacks none
            assert abs(samples - expected) < 8_000, (name, samples, expected)
            print(f"| {name} | {minutes:.0f} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
