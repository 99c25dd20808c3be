"""Time the evaluation stage on made-up results, beside a plain loop over bootstrap draws.

    python benchmarks/evaluate.py [--ablations 8] [--seeds 5] [--speakers 60] [--utterances 167] [--draws 2000]

Everything that the rules do from predictions to tables runs in this one process, stage by stage: k chosen for every
ablation, validation (40 speakers) and test calibrated with the default methods and random draws, the guard, the
tables with their intervals. The plain loop is the bootstrap that a script would have for its intervals: it draws
speakers, concatenates their utterances and computes O-CCC, A-CCC and the deltas anew (without the variance of seeds,
which ours hold). It is timed on a few draws of a few rows, and its time for all rows and draws is extrapolated.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a job with one thread
ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow_scripts"), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from made_results import METHODS, MadeResults  # noqa: E402

from ser.formats.parquet import read_parquet  # noqa: E402
from ser.statistics.bootstrap import draw_speakers  # noqa: E402
from ser.statistics.ccc import compute_ccc  # noqa: E402


def run_stage(name: str, work) -> float:
    start, cpu = time.perf_counter(), time.process_time()
    work()
    seconds = time.perf_counter() - start
    print(f"{name:<42}{seconds:9.1f} s   ({time.process_time() - cpu:.1f} s of a CPU)")
    return seconds


def time_plain_loop(made: MadeResults, draws: int, rows: int = 4) -> float:
    """Seconds per row and draw of the plain loop, all seeds of a row."""
    labels = read_parquet(made.labels("test"))
    truth = np.array(labels[made.targets[0]].to_pylist())
    _, speaker = np.unique(labels["speaker_id"].to_pylist(), return_inverse=True)
    of = [np.flatnonzero(speaker == s) for s in range(speaker.max() + 1)]
    runs = [
        read_parquet(path)[made.targets[0]].to_numpy()
        for ablation in itertools.islice(made.ablations, 2)
        for path in made.seed_files("predictions", ablation, "test")
    ]
    own, reference = runs[: len(made.seeds)], runs[len(made.seeds) :]
    weights = draw_speakers(len(of), draws, 1).astype(int)
    start = time.perf_counter()
    for _ in range(rows):
        for row in weights:
            drawn = np.repeat(np.arange(len(of)), row)
            utterances = np.concatenate([of[s] for s in drawn])
            for prediction in (*own, *reference):
                compute_ccc(truth[utterances], prediction[utterances])
                np.mean([compute_ccc(truth[of[s]], prediction[of[s]]) for s in drawn])
    return (time.perf_counter() - start) / rows / draws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"ablations": 8, "seeds": 5, "speakers": 60, "utterances": 167, "draws": 2000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    ablations = ["baseline", *(f"ablation-{n}" for n in range(1, options.ablations))]
    targets = ["valence", "arousal", "dominance"]
    speakers = {"train": 200, "validation": 40, "test": options.speakers}
    with tempfile.TemporaryDirectory() as folder:
        made = MadeResults(folder, ablations, range(options.seeds), targets, speakers, options.utterances, METHODS)
        print(
            f"{options.ablations} ablations x {options.seeds} seeds x {len(targets)} targets, {options.speakers} test "
            f"speakers with {options.speakers * options.utterances} utterances, {len(METHODS)} calibrations\n"
        )
        total = run_stage("choose k and alpha on validation", lambda: [made.choose(a) for a in ablations])
        total += run_stage(
            "calibrate validation and test", lambda: [made.calibrate(a, s) for a in ablations for s in made.evaluated]
        )
        total += run_stage("check the protocol", made.check)
        scored = run_stage("score, with all intervals", made.score)
        total += scored
        n_rows = len((made.root / "ablation_table.csv").read_text().splitlines()) - 1
        few = 3
        plain = time_plain_loop(made, few) * n_rows * options.draws
        print(f"{'all':<42}{total:9.1f} s   (aim: at most 60 s on 2 cores; this is one process)")
        print(f"\n{n_rows} rows; a plain loop of {options.draws} draws, by {few} of them:{plain:12.0f} s")
        print(f"ratio to the whole scoring stage: {plain / scored:.0f}")


if __name__ == "__main__":
    main()
