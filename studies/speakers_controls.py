"""Print the tables of docs/speakers.md: each ablation against the baseline, and against its control, NAME-permuted.

    python studies/speakers_controls.py runs/speakers/results [--split test]

A-CCC, means over seeds; differences are paired by speaker, with 95 % intervals over new speakers and seeds where there
are six test speakers or more, as in `ablation_table.csv`. p values are adjusted by Holm for all rows and
targets against the baseline together, and likewise for all against controls.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))
from ser.evaluation.cells import Cell, find_predicted, measure, read_calibrated
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
    print("\n".join(format_table(*compare(options.results, options.split, options.targets, options.baseline))))


def compare(results: Path, split: str, targets: list[str], baseline: str) -> tuple[list[str], dict]:
    """The ablations, and by (ablation, target) the rows against nothing, the baseline and the control."""
    runs = find_runs(sorted((results / "calibrated").glob(f"*/seed-*/{split}.parquet")))
    labels = read_labels(results / f"labels/{split}.parquet", targets)
    labels = labels.take(find_predicted(min(path for (name, *_), path in runs.items() if name == baseline), labels))
    names = sorted({name for name, *_ in runs}, key=lambda name: (name != baseline, name))
    moments = {}
    for name in names:
        own = [read_calibrated(path, labels) for (ablation, *_), path in sorted(runs.items()) if ablation == name]
        moments |= {(name, t): (measure(labels, own, "none", t), len(own)) for t in range(len(targets))}
    rows = {}
    for (name, t), (own, seeds) in moments.items():
        for other in (baseline, f"{name}{CONTROL}"):
            if other != name and (other, t) in moments:
                cell = Cell(name, "none", t, own, moments[other, t][0], seeds)
                rows[name, targets[t], "baseline" if other == baseline else "control"] = score_cell(cell, POLICY)
        if name == baseline:
            rows[name, targets[t], "own"] = score_cell(Cell(name, "none", t, own, None, seeds), POLICY)
    for against in ("baseline", "control"):
        tested = [row for key, row in rows.items() if key[2] == against and row.get("delta_a_ccc_p") is not None]
        for row, p in zip(tested, adjust_holm(np.array([row["delta_a_ccc_p"] for row in tested])), strict=True):
            row["p_adjusted"] = p
    return names, rows


def format_table(names: list[str], rows: dict) -> list[str]:
    """Markdown: a row per ablation that is no control, and of each target the two differences."""
    targets = list(dict.fromkeys(target for _, target, _ in rows))
    lines = ["| | " + " | ".join(f"{target}: − baseline | − control" for target in targets) + " |"]
    lines.append("|---" * (1 + 2 * len(targets)) + "|")
    own = [rows[names[0], target, "own"]["a_ccc"] for target in targets]
    lines.append(f"| {names[0]} (A-CCC itself) | " + " | ".join(f"{value:.3f} |" for value in own) + " |")
    for name in names[1:]:
        if not name.endswith(CONTROL):
            cells = [rows.get((name, target, what)) for target in targets for what in ("baseline", "control")]
            lines.append(f"| {name} | " + " | ".join(map(format_delta, cells)) + " |")
    return lines


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
