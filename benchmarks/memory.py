"""Peak memory of each kind of job, for a corpus and one ten times as large.

    python benchmarks/memory.py [--utterances 10] [--cores 2]

Made-up utterances of 0.6 s by 40 speakers, the demo's encoder, an mlp and a transformer head. `training_memory_gb` is
so small that training reads its features from disk in each epoch, as it does for a corpus that memory cannot hold.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from made_corpus import make_corpus  # noqa: E402

SPEAKERS = {"train": 24, "validation": 8, "test": 8}
CONFIG = {
    "corpus": {"folder": "corpus", "shards": 1},
    "encoders": {"demo": {"base": str(ROOT / "demo" / "encoder")}},
    "ablations": [
        {"name": "mlp"},
        {"name": "transformer", "head": "transformer", "speaker": "mfcc", "fusion": "sum"},
    ],
    "baseline": "mlp",
    "training": {"epochs": 2},
    "training_memory_gb": 0.01,
}


def measure(folder: Path, utterances: int, cores: int) -> dict[str, float]:
    """Run the workflow and return the largest peak memory of each rule's jobs, MB."""
    make_corpus(folder / "corpus", utterances, SPEAKERS)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder, "--quiet"]
    subprocess.run([*map(str, command), "--cores", str(cores)], check=True)
    peaks: dict[str, float] = defaultdict(float)
    for path in (folder / "results" / "benchmarks").rglob("*.tsv"):
        rule = path.relative_to(folder / "results" / "benchmarks").parts[0].removesuffix(".tsv")
        header, values = (line.split("\t") for line in path.read_text().splitlines())
        peaks[rule] = max(peaks[rule], float(values[header.index("max_rss")]))
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=10, help="a speaker, in the smaller corpus")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    peaks = []
    for utterances in (options.utterances, 10 * options.utterances):
        with tempfile.TemporaryDirectory() as folder:
            peaks.append(measure(Path(folder), utterances, options.cores))
    total = sum(SPEAKERS.values()) * options.utterances
    print(f"{'rule':24} {total:>8} {10 * total:>8} utterances, MB")
    for rule in sorted(peaks[0]):
        print(f"{rule:24} {peaks[0][rule]:8.0f} {peaks[1][rule]:8.0f}")


if __name__ == "__main__":
    main()
