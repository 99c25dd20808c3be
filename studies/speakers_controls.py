"""Print the tables of docs/speakers.md: what an ablation, and what a calibration, adds to the baseline and a control.

    python studies/speakers_controls.py runs/speakers/results [--split test]

The first holds each ablation against the baseline and against its control, NAME-permuted; the second the baseline
calibrated by each method against itself uncalibrated and against random neighbours (random_k).

A-CCC, means over seeds; differences are paired by speaker, with 95 % intervals over new speakers and seeds where there
are six test speakers or more, as in `ablation_table.csv`. p values are adjusted by Holm for all rows and targets of a
comparison.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))
from ser.config.calibration_methods import Method
from ser.evaluation.cells import Cell, build_calibrated, find_predicted, measure, read_calibrated
from ser.evaluation.scoring import score_cell
from ser.formats.utterances import find_runs, read_labels
from ser.statistics.moments import Policy
from ser.statistics.multiplicity import adjust_holm

CONTROL = "-permuted"
POLICY = Policy(min_utterances=5, constant_labels="omit")  # the workflow's defaults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--targets", nargs="+", default=["valence", "arousal", "dominance"])
    parser.add_argument("--baseline", default="baseline")
    options = parser.parse_args()
    baseline, targets = options.baseline, options.targets
    runs = find_runs(sorted((options.results / "calibrated").glob(f"*/seed-*/{options.split}.parquet")))
    labels = read_labels(options.results / f"labels/{options.split}.parquet", targets)
    labels = labels.take(find_predicted(min(path for (name, *_), path in runs.items() if name == baseline), labels))
    seeds: dict[str, list] = {}
    for (name, *_), path in sorted(runs.items()):
        seeds.setdefault(name, []).append(read_calibrated(path, labels))

    ablations = {
        name: [measure(labels, own, "none", t) for t in range(len(targets))] for name, own in sorted(seeds.items())
    }
    others = ("baseline", lambda _: baseline), ("control", lambda name: f"{name}{CONTROL}")
    print("\n".join(compare(ablations, targets, baseline, others, "none", len(seeds[baseline]))), end="\n\n")
    calibrated = {"none": ablations[baseline]}
    for name in sorted({name.partition("/")[0] for name in seeds[baseline][0]} - {"none"}):  # draws are NAME/NUMBER
        calibrated[name] = [
            build_calibrated(baseline, Method(name), t, labels, seeds[baseline], none).moments
            for t, none in enumerate(ablations[baseline])
        ]
    others = ("none", lambda _: "none"), ("random", lambda _: "random_k")
    print("\n".join(compare(calibrated, targets, "none", others, "calibrated", len(seeds[baseline]))))


def compare(
    moments: dict[str, list], targets: list[str], own: str, others: tuple, kind: str, n_seeds: int
) -> list[str]:
    """Markdown: a row for each name that is no control, and of each target the differences from two others."""
    rows = {}
    for what, find in others:
        pairs = [(name, find(name)) for name in moments if name != own and find(name) in set(moments) - {name}]
        for t in range(len(targets)):
            for name, other in pairs:
                rows[name, t, what] = score_cell(
                    Cell(name, kind, t, moments[name][t], moments[other][t], n_seeds), POLICY
                )
        tested = [row for key, row in rows.items() if key[2] == what and row.get("delta_a_ccc_p") is not None]
        for row, p in zip(tested, adjust_holm(np.array([row["delta_a_ccc_p"] for row in tested])), strict=True):
            row["p_adjusted"] = p
    first, second = (what for what, _ in others)
    itself = [
        score_cell(Cell(own, "none", t, moments[own][t], None, n_seeds), POLICY)["a_ccc"] for t in range(len(targets))
    ]
    return [
        "| | " + " | ".join(f"{target}: − {first} | − {second}" for target in targets) + " |",
        "|---" * (1 + 2 * len(targets)) + "|",
        f"| {own} (A-CCC itself) | " + " | ".join(f"{value:.3f} |" for value in itself) + " |",
        *(
            f"| {name} | "
            + " | ".join(
                format_delta(rows.get((name, t, what))) for t in range(len(targets)) for what in (first, second)
            )
            + " |"
            for name in moments
            if name != own and (kind != "none" or not name.endswith(CONTROL))
        ),
    ]


def format_delta(row: dict | None) -> str:
    """A difference with its interval; bold where its adjusted p is below .05."""
    if row is None:
        return ""
    text = f"{row['delta_a_ccc']:+.3f}"
    if "delta_a_ccc_low" in row:
        text += f" [{row['delta_a_ccc_low']:+.3f}, {row['delta_a_ccc_high']:+.3f}]"
    return f"**{text}**" if row.get("p_adjusted", 1) < 0.05 else text


if __name__ == "__main__":
    main()
