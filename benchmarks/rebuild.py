"""What Snakemake and the index cost before any work: at the size of MSP-Podcast, and one changed file of a shard.

    python benchmarks/rebuild.py [--files 265000] [--speakers 3500] [--folder DIR]

A corpus of WAV files of 5.6 s (180 kB) in MSP-Podcast's layout with random names, and the demo's config with 64 shards.
Each file begins with samples of its own, since no recording may be there twice, and goes on with zeros that take no
disk. The scripts are replaced by ones that only make their outputs, so that there is a finished run to plan upon; the
rules, the index and what Snakemake keeps are the real ones. Reports, for each step, wall seconds, processor seconds
(which other users of the machine do not change) and the peak memory of the process.

A cold disk is not measured: files that were just written are read from memory.
"""

import argparse
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest
from pathlib import Path

import numpy as np
import soundfile
import yaml

ROOT = Path(__file__).parents[1]
SPLITS = {"Train": 0.64, "Development": 0.12, "Test1": 0.17, "Test2": 0.055, "Test3": 0.015}  # of the utterances
HEADER = 44  # bytes of a WAV file before its samples
STUB = """
import os
for path in snakemake.output:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb").truncate(2_000_000 if path.endswith((".tfrecord", ".safetensors")) else 2_000)
"""


def make_corpus(folder: Path, files: int, speakers: int) -> None:
    """`Audios/` and `Labels/labels_consensus.csv`."""
    rng = random.Random(0)
    audio = folder / "Audios"
    audio.mkdir(parents=True)
    (folder / "Labels").mkdir()
    soundfile.write(folder / "source.wav", np.zeros(int(5.6 * 16_000)), 16_000)
    silence = (folder / "source.wav").read_bytes()
    names = rng.sample(range(10**8), files)
    splits = rng.choices(list(SPLITS), SPLITS.values(), k=speakers)
    with open(folder / "Labels" / "labels_consensus.csv", "w", newline="", encoding="utf-8") as file:
        sheet = csv.writer(file)
        sheet.writerow(["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"])
        for number, name in enumerate(names):
            file_name = f"MSP-PODCAST_{name:08d}.wav"
            with open(audio / file_name, "wb") as wave:
                wave.write(silence[:HEADER] + rng.randbytes(64))
                wave.truncate(len(silence))
            speaker = number % speakers if number < speakers else int(speakers * rng.random() ** 2)
            labels = [round(rng.uniform(1, 7), 6) for _ in range(3)]
            sheet.writerow([file_name, "N", *labels, speaker, "Male", splits[speaker]])


def make_project(folder: Path) -> None:
    """A copy of the workflow with scripts that only make their outputs, and a config."""
    for name in ("rules", "workflow_scripts", "profiles", "envs", "demo/encoder"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    for script in (folder / "workflow_scripts").glob("*.py"):
        imports = [line for line in script.read_text().splitlines() if line.startswith(("from ser", "import ser"))]
        # The imports stay, for the rules to depend on the same modules, but are not carried out.
        script.write_text("if False:\n    " + "\n    ".join(imports or ["pass"]) + STUB)
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["corpus"] = {"layout": "msp_podcast", "folder": "corpus", "shards": 64}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def hash_as_fast_as_possible(paths: list[Path]) -> tuple[float, float]:
    """Wall seconds and bytes of hashing files in threads and nothing else."""
    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = pool.map(_hash_chunk, [paths[i : i + 64] for i in range(0, len(paths), 64)])
        total = sum(sizes)
    return time.perf_counter() - started, total


def _hash_chunk(paths: list[Path]) -> int:
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            file_digest(file, "sha256").hexdigest()
    return sum(path.stat().st_size for path in paths)


def run(folder: Path, *arguments: str) -> tuple[float, float, float, str]:
    """Wall seconds, processor seconds, peak memory in GB and output of Snakemake, children included."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(os.cpu_count()), "--nocolor", *arguments]
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        output.seek(0)
        text = output.read()
    if status:
        sys.exit(text[-5000:])
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6, text


def report(what: str, wall: float, processor: float, memory: float, more: str = "") -> None:
    print(f"{what:34} {wall:7.1f} s, {processor:7.1f} s of processor, {memory:5.2f} GB {more}", flush=True)


def count_jobs(text: str) -> str:
    totals = [line.split()[1] for line in text.splitlines() if line.startswith("total ")]
    return f"{totals[0] if totals else 0} jobs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=265_000)
    parser.add_argument("--speakers", type=int, default=3_500)
    parser.add_argument("--folder", type=Path, help="kept afterwards, and used again if it is there")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    try:
        corpus = folder / "corpus"
        if not corpus.exists():
            make_corpus(corpus, options.files, options.speakers)
        for name in ("results", ".snakemake", "rules", "workflow_scripts", "profiles", "envs", "demo"):
            shutil.rmtree(folder / name, ignore_errors=True)
        make_project(folder)
        measure(folder)
    finally:
        if not options.folder:
            shutil.rmtree(folder)


def measure(folder: Path) -> None:
    paths = sorted((folder / "corpus" / "Audios").iterdir())
    seconds, size = hash_as_fast_as_possible(paths)
    print(f"{len(paths)} files, {size / 1e9:.1f} GB; SHA-256 alone: {seconds:.1f} s, {size / seconds / 1e6:.0f} MB/s")
    *figures, text = run(folder, "-n", "--quiet")
    report("first plan, with the index", *figures, f"({size / figures[0] / 1e6:.0f} MB/s)")
    *figures, _ = run(folder, "--quiet", "all")
    report("all jobs, empty", *figures)
    *figures, text = run(folder, "-n")
    report("plan with nothing to do", *figures, count_jobs(text))
    changed = paths[0]
    content = changed.read_bytes()
    changed.write_bytes(content[:-2] + b"\1\1")
    *figures, text = run(folder, "-n")
    report("plan after one changed file", *figures, count_jobs(text))


if __name__ == "__main__":
    main()
