"""Audio facts and mean MFCCs: our one pass over a shard against a loop of librosa over the files, on one core.

    python benchmarks/measure_audio.py [--folder demo/audio] [--repetitions 7]

All times are of the process's own processor seconds, files in the page cache, both in the same run by turns. The limit
is what libsndfile and soxr alone take to decode and resample: nobody can be faster with them.
"""

import argparse
import multiprocessing
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow_scripts"))
LIMITS = {"min_seconds": 0.1, "max_seconds": 600, "silence_db": -80}


def run_ours(manifest: Path) -> None:
    from ser.audio.facts import measure_shard

    measure_shard(manifest, manifest.with_suffix(".parquet"), manifest.with_suffix(".json"), **LIMITS)


def run_librosa(manifest: Path) -> None:
    """The script a user would write: MFCCs alone, no facts, no check of the content."""
    import librosa

    from ser.formats.manifest import read

    for utterance in read(manifest):
        samples, _ = librosa.load(utterance.path, sr=16_000)
        librosa.feature.mfcc(y=samples, sr=16_000, n_mfcc=13).mean(axis=1)


def run_limit(manifest: Path) -> None:
    import soundfile
    import soxr

    from ser.formats.manifest import read

    for utterance in read(manifest):
        with soundfile.SoundFile(utterance.path) as file:
            samples = file.read(dtype="float32", always_2d=True)
        mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
        if file.samplerate != 16_000:
            soxr.resample(mono, file.samplerate, 16_000)


def run_alone(run, manifest: Path) -> tuple[float, float]:
    """Processor seconds and peak memory (MB) of a fresh process, imports and all."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_self, (run, manifest))


def _measure_self(run, manifest: Path) -> tuple[float, float]:
    run(manifest)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return time.process_time(), int(peak[1]) / 1024


def write_manifest(path: Path, files: list[Path], times: int = 1) -> Path:
    from ser.files import sha256, write_text
    from ser.formats.csv_files import format_rows
    from ser.formats.manifest import COLUMNS, Utterance

    digests = [sha256(file) for file in files]
    rows = [
        Utterance(f"{turn}/{number:06}", str(file), f"speaker {number % 50}", digest)
        for turn in range(times)
        for number, (file, digest) in enumerate(zip(files, digests, strict=True))
    ]
    write_text(path, format_rows(COLUMNS, rows))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "demo" / "audio")
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before the numerical libraries count processors
    files = sorted(path for path in arguments.folder.rglob("*") if path.is_file())
    runs = {"ours": run_ours, "librosa": run_librosa, "limit": run_limit}
    seconds = {name: [] for name in runs}
    with tempfile.TemporaryDirectory() as folder:
        shard = write_manifest(Path(folder) / "shard.csv", files)
        for run in runs.values():  # imports, compilation, page cache
            run(write_manifest(Path(folder) / "warm.csv", files[:4]))
        for _ in range(arguments.repetitions):
            for name, run in runs.items():
                start = time.process_time()
                run(shard)
                seconds[name].append(time.process_time() - start)
        each = {name: 1e3 * median(values) / len(files) for name, values in seconds.items()}
        for name in runs:
            print(f"{name:8} {each[name]:6.2f} ms a file")
        for name in ("librosa", "limit"):
            ratio = median(a / b for a, b in zip(seconds[name], seconds["ours"], strict=True))
            print(f"{name} / ours: {ratio:.2f} (median of {arguments.repetitions}, {len(files)} files)")
        alone = {name: median(run_alone(runs[name], shard)[0] for _ in range(3)) for name in ("ours", "librosa")}
        print(f"librosa / ours, a fresh process with its imports: {alone['librosa'] / alone['ours']:.2f}")
        for times in (1, 4, 16):
            used, memory = run_alone(run_ours, write_manifest(Path(folder) / "more.csv", files, times))
            print(f"{times:2} times the data: {used:6.2f} s, peak memory {memory:4.0f} MB")


if __name__ == "__main__":
    main()
