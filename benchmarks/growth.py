"""Wall time and peak memory of each kind of job as the corpus grows: 1, 4 and 16 times the utterances.

    python benchmarks/growth.py [--utterances 5] [--cores 2]

Made-up utterances of 0.6 s by 40 speakers in one shard per split, the demo's encoder, an mlp and a transformer head.
`training_memory_gb` is so small that training reads its features from disk in each epoch, as it does for a corpus that
memory cannot hold. Time grows with the work where its ratio is 4 and 16 or less (starting a job is part of it), and
memory is flat where its ratio is 1.
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
TIMES = (1, 4, 16)
CONFIG = {
    "corpus": {"folder": "corpus", "shards": 1},
    "encoders": {"demo": {"base": str(ROOT / "demo" / "encoder"), "threads": 1}},
    "ablations": [
        {"name": "mlp"},
        {"name": "transformer", "head": "transformer", "speaker": "mfcc", "fusion": "sum"},
    ],
    "baseline": "mlp",
    "training": {"epochs": 2},
    "training_memory_gb": 0.001,
}


def measure(folder: Path, utterances: int, cores: int) -> dict[str, tuple[float, float]]:
    """Run the workflow and return the wall seconds and the peak memory (MB) of each rule's largest job."""
    make_corpus(folder / "corpus", utterances, SPEAKERS)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--cores", cores, "--quiet", "all", "--", "results/ablation_table.csv"]
    subprocess.run(list(map(str, command)), check=True)
    largest: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for path in (folder / "results" / "benchmarks").rglob("*.tsv"):
        rule = path.relative_to(folder / "results" / "benchmarks").parts[0].removesuffix(".tsv")
        header, values = (line.split("\t") for line in path.read_text().splitlines())
        used = (float(values[header.index(name)]) for name in ("s", "max_rss"))
        largest[rule] = tuple(map(max, zip(largest[rule], used, strict=True)))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=5, help="a speaker, in the smallest corpus")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    sizes = []
    for times in TIMES:
        with tempfile.TemporaryDirectory() as folder:
            sizes.append(measure(Path(folder), times * options.utterances, options.cores))
    total = sum(SPEAKERS.values()) * options.utterances
    counts = "".join(f"{times * total:>8}" for times in TIMES)
    print(f"{'utterances':24}{counts}{'ratios':>14}   {counts}{'ratios':>14}")
    for rule in sorted(sizes[0]):
        seconds, peaks = ([size[rule][i] for size in sizes] for i in (0, 1))
        row = "".join(f"{value:8.1f}" for value in seconds) + "".join(f"{s / seconds[0]:7.1f}" for s in seconds[1:])
        row += " s " + "".join(f"{value:8.0f}" for value in peaks) + "".join(f"{p / peaks[0]:7.1f}" for p in peaks[1:])
        print(f"{rule:24}{row} MB")


if __name__ == "__main__":
    main()
