"""How much a few utterances of a speaker add to calibration, without or with their labels, against all its audio."""

from dataclasses import replace

from ser.config.calibration_methods import Method, find_counterpart
from ser.evaluation.cells import Cell
from ser.evaluation.scoring import score_cell
from ser.statistics.moments import Policy

CURVE_COLUMNS = [
    *("ablation", "calibration", "labels", "utterances", "target", "split", "n_speakers", "n_utterances", "a_ccc"),
    *("delta_a_ccc", "delta_a_ccc_low", "delta_a_ccc_high"),
    *("counterpart", "beyond_a_ccc", "beyond_a_ccc_low", "beyond_a_ccc_high"),
]
ENDS = ("", "_low", "_high")


def extend_curve(curve: dict[tuple, dict], cell: Cell, scored: dict, methods: list[Method], policy: Policy) -> None:
    """Add the rows of `enrolment_curve.csv` of a method with enrolment: its own, and once that of its counterpart.

    The counterpart has all of a speaker's audio, without labels. Here it is scored on the utterances that enrolment
    leaves, so that all figures, and their differences (`beyond`), are of the same utterances.

    Args:
        curve: rows by (ablation, target, calibration)
        scored: the cell's figures
    """
    method = next(method for method in methods if method.name == cell.calibration)
    row = {"calibration": method.name, "labels": "enrolled" if method.enrolment_labels else "none"}
    row |= {"utterances": method.enrolment} | scored
    curve[cell.ablation, cell.target, method.name] = row
    if cell.counterpart is None:
        return
    other = find_counterpart(method, methods)
    beyond = score_cell(replace(cell, reference=cell.counterpart), policy)
    row |= {"counterpart": other.name} | {f"beyond_a_ccc{end}": beyond.get(f"delta_a_ccc{end}") for end in ENDS}
    key = cell.ablation, cell.target, other.name
    if key not in curve:
        figures = score_cell(replace(cell, moments=cell.counterpart), policy)
        curve[key] = {"calibration": other.name, "labels": "none", "utterances": "all"} | figures
