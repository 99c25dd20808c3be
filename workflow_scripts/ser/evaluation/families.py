"""Families of comparisons: which rows are tested together, and their p values adjusted for how many there are.

Of many differences some exclude 0 by chance. Two families are declared, each within a test split: the ablations
against the baseline (Holm: the chance of any false one is at most 5 %), and the calibrations against their own
ablation, which explore (Benjamini-Hochberg: of those called different at most 5 % are false, on average). The studied
calibration is held against its controls in a table of their own: `primary` are those of one ablation, which the config
names beforehand (Holm), `controls` those of the others (Benjamini-Hochberg). Validation rows are in none: k was chosen
on these speakers. Nor are rows that use test labels. Gaps between groups of speakers are a family for each column that
names groups (Benjamini-Hochberg, which is the same whether two groups' one gap counts once or from both sides).
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from scipy.stats import false_discovery_control

from ser.config.calibration_methods import Method
from ser.statistics.multiplicity import adjust_holm

ADJUST = {
    **dict.fromkeys(("ablations", "primary"), adjust_holm),
    **dict.fromkeys(("calibrations", "controls", "groups"), false_discovery_control),
}


def name_family(row: dict, studied: Iterable[str], methods: list[Method]) -> str:
    """The family of a row of the ablation table; `studied` are the ablations of the config but the baseline."""
    if row["split"] == "validation":
        return ""
    if row["calibration"] == "none":
        return "ablations" if row["ablation"] in studied else ""
    return "calibrations" if row["calibration"] in {method.name for method in methods} else ""


def adjust_families(rows: list[dict], differences: Iterable[str] = ("delta_a_ccc", "delta_o_ccc")) -> None:
    """Add `{difference}_p_adjusted` to the rows that have a `family` and a p."""
    for difference in differences:
        families = defaultdict(list)
        for row in rows:
            if row["family"] and row.get(f"{difference}_p") is not None:
                families[row["family"], row["split"], row.get("group")].append(row)
        for (family, *_), members in families.items():
            adjusted = ADJUST[family](np.array([row[f"{difference}_p"] for row in members]))
            for row, value in zip(members, adjusted, strict=True):
                row[f"{difference}_p_adjusted"] = float(value)


def list_controls(studied: str, methods: list[Method]) -> list[str]:
    """The methods that differ from the studied one in whose statistics they take: random neighbours, or all."""
    own = next((method for method in methods if method.name == studied), None)
    if own is None or own.neighbours != "nearest" or own.enrolment:
        return []
    return [m.name for m in methods if m.neighbours != "nearest" and m.shift == own.shift and not m.enrolment]
