"""Time and size of the report on made-up results of MSP-Podcast's size.

    python benchmarks/report.py [--ablations 10] [--seeds 3] [--utterances 223] [--folder FOLDER]

987 training speakers, 41 of validation and 162 in three test splits, all with the same number of utterances: 265,000
with 223. The folder keeps the results; without one they are made in a temporary folder. Making them takes minutes,
which are not counted.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a job with one thread
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow_scripts"), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
from made_report import make_study, report  # noqa: E402

from ser.formats.parquet import read_parquet, write_parquet  # noqa: E402

SPEAKERS = {"train": 987, "validation": 41, "test1": 50, "test2": 50, "test3": 62}
WIDTH = 1024  # of HuBERT large


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"ablations": 10, "seeds": 3, "utterances": 223}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        ablations = ["baseline", *(f"ablation-{n}" for n in range(1, options.ablations))]
        seeds, targets = range(1, options.seeds + 1), ["valence", "arousal", "dominance"]
        made = make_study(
            folder,
            ablations=ablations,
            seeds=seeds,
            targets=targets,
            speakers=SPEAKERS,
            utterances=options.utterances,
            rejected=100,
        )
        rng = np.random.default_rng(1)
        for ablation in ablations:
            for split in SPEAKERS:
                (path, *_) = made.seed_files("speaker_vectors", ablation, split)
                speakers = read_parquet(path)["speaker_id"]
                vectors = rng.normal(1, 1, (len(speakers), WIDTH)).astype(np.float32)
                write_parquet(path, pa.table({"speaker_id": speakers, "vector": pa.array(list(vectors))}))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        page = folder / "report.html"
        report(made, page)
        print(f"{time.perf_counter() - start:.1f} s ({time.process_time() - cpu:.1f} s of a CPU)")
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"{page.stat().st_size / 1e6:.2f} MB; peak memory {before / 1e3:.0f} MB before, {after / 1e3:.0f} MB after"
        )


if __name__ == "__main__":
    main()
