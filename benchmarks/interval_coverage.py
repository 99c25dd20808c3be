"""How often the intervals of the tables miss: made-up speakers and seeds whose true CCCs are known.

    python benchmarks/interval_coverage.py [--repeats 1000] [--speakers 6,12,25,50,100] [--seeds 1,3,5] [--seed 1]

Speakers differ in the mean (SD .5) and the spread of their labels, in a model's bias (SD .3) and slope for them;
ablations differ further by speaker (SD .2). Predictions are a + b x label + the speaker's + the seed's + the seed's
for this speaker + an error of the utterance that all models share + one of their own. Labels and errors are normal,
so a speaker's moments are drawn at once, not utterance by utterance (Bartlett's decomposition of Wishart's
distribution), and go through the library as they come. A world says how seeds differ:

    quiet      by the noise of their predictions alone (A-CCC's SD over seeds about .004)
    speakers   by speaker too, SD .4 (about .015)
    mixed      by speaker, SD .3, by a shift, SD .2, and by slope, SD .05 (about .035); the likeliest
    shift      by a shift of SD .7 on the scale of 1 to 7 (about .09): the CCC falls with its square, so seeds are
               few values from a very skewed distribution

n is 50 for all speakers (equal) or lognormal from 5 to 200. The truth is that of new seeds and of infinitely many
speakers, from a simulation apart. A share of 5 % has a Monte-Carlo standard error of .7 points in 1,000 repeats.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # as in a job with one thread

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

from scipy.special import ndtr, stdtrit  # noqa: E402

from ser.statistics.bootstrap import draw_speakers  # noqa: E402
from ser.statistics.intervals import estimate, estimate_difference  # noqa: E402
from ser.statistics.moments import Moments  # noqa: E402
from ser.statistics.seed_values import value_a_ccc, value_o_ccc  # noqa: E402


@dataclass(frozen=True)
class World:
    """How the seeds of an ablation differ (SDs), and how good it is."""

    shift: float = 0.0
    slopes: float = 0.0
    by_speaker: float = 0.0
    slope: float = 0.6


WORLDS = {
    "quiet": World(),
    "speakers": World(by_speaker=0.4),
    "mixed": World(shift=0.2, slopes=0.05, by_speaker=0.3),
    "shift": World(shift=0.7),
}
BETTER = 0.15  # the slope of the better arm is this much nearer to 1
ABLATION_BY_SPEAKER = 0.2
KINDS = {
    "false": "false share: ablation against ablation, no true difference",
    "delta": "misses: ablation against ablation, a true difference",
    "calibrations": "false share: calibration against calibration, no true difference",
    "calibrated": "misses: calibrated against its own ablation",
    "own": "misses: an ablation's own figure",
}


class Made:
    """Labels of made-up speakers, and models' predictions of them, as moments (repeats, seeds, speakers)."""

    def __init__(self, rng: np.random.Generator, repeats: int, speakers: int, equal: bool) -> None:
        self.rng, self.shape = rng, (repeats, 1, speakers)
        normal = rng.normal
        sizes = np.clip(np.exp(normal(np.log(32), 0.95, self.shape)).round(), 5, 200)
        self.n = np.full(self.shape, 50.0) if equal else sizes
        self.mean = 4 + 0.5 * normal(size=self.shape)
        self.sd = 0.9 * np.exp(0.2 * normal(size=self.shape))
        self.bias, self.slope = 0.3 * normal(size=self.shape), 0.15 * normal(size=self.shape)
        self.mean_true = self.mean + self.sd * normal(size=self.shape) / np.sqrt(self.n)
        self.mean_shared = normal(size=self.shape) / np.sqrt(self.n)
        # Bartlett: labels and the shared error are rows of a triangle times its transpose.
        self.yy, self.ys = np.sqrt(rng.chisquare(self.n - 1)), normal(size=self.shape)
        self.ss = np.sqrt(rng.chisquare(self.n - 2))
        self.var_true = self.sd**2 * self.yy**2 / self.n

    def train(self, world: World, seeds: int) -> tuple:
        """An ablation's runs: mean_pred, var_pred, covariance (repeats, seeds, speakers)."""
        repeats, _, speakers = self.shape
        shape, normal, n = (repeats, seeds, speakers), self.rng.normal, self.n
        own, shared = 0.3, 0.5  # SDs of the errors of an utterance
        slope = world.slope + self.slope + world.slopes * normal(size=(repeats, seeds, 1))
        bias = self.bias + ABLATION_BY_SPEAKER * normal(size=self.shape)
        bias = bias + world.shift * normal(size=(repeats, seeds, 1)) + world.by_speaker * normal(size=shape)
        y, s, rest = normal(size=shape), normal(size=shape), self.rng.chisquare(np.broadcast_to(n - 3, shape))
        error = (own * self.sd * self.yy * y, own * (self.ys * y + self.ss * s), own**2 * (y**2 + s**2 + rest))
        with_true, with_shared, alone = (part / n for part in error)
        true_shared, shared_alone = self.sd * self.yy * self.ys / n, (self.ys**2 + self.ss**2) / n
        mean = 4 + slope * (self.mean_true - 4) + bias + shared * self.mean_shared
        mean = mean + own * normal(size=shape) / np.sqrt(n)
        covariance = slope * self.var_true + shared * true_shared + with_true
        variance = slope**2 * self.var_true + shared**2 * shared_alone + alone
        variance = variance + 2 * (slope * shared * true_shared + slope * with_true + shared * with_shared)
        return mean, variance, covariance

    def calibrate(self, run: tuple) -> tuple:
        """Mean and spread from made-up neighbours, as good for every seed but for a little."""
        _, variance, covariance = run
        normal = self.rng.normal
        mean = 4 + 0.4 * (self.mean - 4) + 0.3 * normal(size=self.shape) + 0.1 * normal(size=variance.shape)
        sd = 0.85 * np.exp(0.15 * normal(size=self.shape) + 0.05 * normal(size=variance.shape))
        return mean, sd**2, covariance * sd / np.sqrt(variance)

    def moments(self, run: tuple, repeat: int) -> Moments:
        """Of one repeat."""
        n, mean_true, var_true = (part[repeat, 0] for part in (self.n, self.mean_true, self.var_true))
        mean, variance, covariance = (part[repeat] for part in run)
        return Moments(n, mean_true, mean, var_true, variance, covariance)


def make(rng, world: World, repeats: int, speakers: int, seeds: int, equal: bool) -> tuple[Made, dict]:
    """Two ablations alike, one better, and the first with two calibrations alike."""
    made = Made(rng, repeats, speakers, equal)
    runs = {"first": made.train(world, seeds), "alike": made.train(world, seeds)}
    runs["better"] = made.train(replace(world, slope=world.slope + BETTER), seeds)
    runs |= {name: made.calibrate(runs["first"]) for name in ("calibrated", "other")}
    return made, runs


def read_values(made: Made, runs: dict, repeat: int) -> dict:
    """By metric: each arm's metric and its values (seeds, speakers)."""
    moments = {name: made.moments(run, repeat) for name, run in runs.items()}
    every = np.ones(made.shape[-1], bool)
    a_ccc = {name: value_a_ccc(m, every, len(m.mean_pred)) for name, m in moments.items()}
    o_ccc = {name: value_o_ccc(m, len(m.mean_pred)) for name, m in moments.items()}
    return {
        "A": {name: (values.mean(), values) for name, values in a_ccc.items()},
        "O": {name: (by_seed.mean(), values) for name, (by_seed, values) in o_ccc.items()},
    }


def find_truth(rng, world: World, equal: bool) -> dict:
    """The expected metric of each arm, by metric: 4,800 seeds in all, 600 speakers a repeat."""
    sums: dict[str, dict] = {"A": {}, "O": {}}
    for _ in range(20):
        made, runs = make(rng, world, 10, 600, 24, equal)
        for repeat in range(10):
            for metric, arms in read_values(made, runs, repeat).items():
                for name, (value, _) in arms.items():
                    sums[metric].setdefault(name, []).append(value)
    return {metric: {name: np.mean(values) for name, values in arms.items()} for metric, arms in sums.items()}


def try_intervals(arms: dict, truth: dict) -> dict[str, bool]:
    """Whether each kind of interval misses."""
    (first, v_first), (alike, v_alike), (better, v_better) = (arms[name] for name in ("first", "alike", "better"))
    (calibrated, v_calibrated), (other, v_other) = (arms[name] for name in ("calibrated", "other"))
    found = {
        "own": (estimate(v_first, first), truth["first"]),
        "false": (estimate_difference(v_first, v_alike, first - alike), 0.0),
        "delta": (estimate_difference(v_better, v_first, better - first), truth["better"] - truth["first"]),
        "calibrated": (estimate(v_calibrated - v_first, calibrated - first), truth["calibrated"] - truth["first"]),
        "calibrations": (estimate(v_calibrated - v_other, calibrated - other), 0.0),
    }
    return {kind: abs(e.value - true) > e.reach(0.025) for kind, (e, true) in found.items()}


def try_before(made: Made, runs: dict, repeat: int, draws: int = 400) -> dict[str, bool]:
    """The false share of the intervals of before: seeds averaged first, then speakers drawn."""
    n = made.shape[-1]
    weights = draw_speakers(n, draws, int(made.rng.integers(1 << 31)))
    tail = ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.025))
    first, alike = (made.moments(runs[name], repeat) for name in ("first", "alike"))
    differences = {
        "A": weights @ (first.ccc.mean(axis=0) - alike.ccc.mean(axis=0)) / n,
        "O": first.pool(weights).ccc.mean(axis=0) - alike.pool(weights).ccc.mean(axis=0),
    }
    ends = {metric: np.quantile(values, [tail, 1 - tail]) for metric, values in differences.items()}
    return {metric: not low <= 0 <= high for metric, (low, high) in ends.items()}


def print_table(title: str, shares: dict, speakers: list[int], repeats: int) -> None:
    """One row per world, n, metric and number of seeds, one column per number of speakers; per cent."""
    print(f"\n**{title}** (%; {repeats} repeats)\n")
    print(f"| seeds differ | n | metric | seeds | {' | '.join(f'{s} speakers' for s in speakers)} |")
    print("|---" * (4 + len(speakers)) + "|")
    for (world, equal, metric, seeds), row in shares.items():
        cells = (f"{100 * row[s]:.1f} ± {100 * np.sqrt(row[s] * (1 - row[s]) / repeats):.1f}" for s in speakers)
        print(f"| {world} | {'equal' if equal else 'unequal'} | {metric}-CCC | {seeds} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--before", type=int, default=200, help="repeats of the intervals of before; 0: none")
    parser.add_argument("--speakers", default="6,12,25,50,100")
    parser.add_argument("--seeds", default="1,3,5")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    speakers, seeds = ([int(x) for x in text.split(",")] for text in (options.speakers, options.seeds))
    start, rng = time.perf_counter(), np.random.default_rng(options.seed)
    tables: dict[str, dict] = {kind: {} for kind in (*KINDS, "before")}
    for name, world in WORLDS.items():
        for equal in (True, False):
            truth = find_truth(rng, world, equal)
            for k in seeds:
                for n in speakers:
                    count(rng, (name, equal, k, n), world, truth, tables, options.repeats, options.before)
    for kind, title in KINDS.items():
        print_table(title, tables[kind], speakers, options.repeats)
    if options.before:
        title = "before, seeds averaged and speakers drawn; false share: ablation against ablation, no true difference"
        print_table(title, tables["before"], speakers, options.before)
    print(f"\n{time.perf_counter() - start:.0f} s; one seed: the intervals cannot hold what seeds change")


def count(rng, cell: tuple, world: World, truth: dict, tables: dict, repeats: int, before: int) -> None:
    """One cell of the grid: the shares of all kinds into the tables."""
    name, equal, k, n = cell
    misses: dict[tuple, int] = {}
    done, chunk = 0, max(10, 40_000 // (n * k))
    while done < repeats:
        made, runs = make(rng, world, min(chunk, repeats - done), n, k, equal)
        for repeat in range(made.shape[0]):
            for metric, arms in read_values(made, runs, repeat).items():
                for kind, missed in try_intervals(arms, truth[metric]).items():
                    misses[kind, metric] = misses.get((kind, metric), 0) + missed
            if done + repeat < before:
                for metric, missed in try_before(made, runs, repeat).items():
                    misses["before", metric] = misses.get(("before", metric), 0) + missed
        done += made.shape[0]
    for (kind, metric), number in misses.items():
        share = number / (before if kind == "before" else repeats)
        tables[kind].setdefault((name, equal, metric, k), {})[n] = share


if __name__ == "__main__":
    main()
