"""The group table: the figures of groups of speakers (a gender, an accent, ...), and the gaps between them."""

import numpy as np

from ser.config.calibration_methods import read_methods
from ser.evaluation.cells import Cell, build_cells
from ser.evaluation.families import adjust_families, name_family
from ser.evaluation.scoring import describe_delta, explain_gaps, score_cell
from ser.formats.csv_files import read_rows, write_csv
from ser.formats.utterances import find_runs, read_labels
from ser.statistics.intervals import MIN_SPEAKERS, estimate_gap
from ser.statistics.moments import Policy
from ser.statistics.seed_values import value_a_ccc

GROUP_COLUMNS = [
    *("group", "value", "ablation", "calibration", "target", "split", "n_speakers", "n_utterances", "n_seeds"),
    *("o_ccc", "o_ccc_low", "o_ccc_high", "a_ccc", "a_ccc_low", "a_ccc_high"),
    *("delta_a_ccc", "delta_a_ccc_low", "delta_a_ccc_high", "delta_o_ccc", "delta_o_ccc_low", "delta_o_ccc_high"),
    *("gap_a_ccc", "gap_a_ccc_low", "gap_a_ccc_high", "gap_a_ccc_p", "gap_a_ccc_p_adjusted", "note"),
]


def score_groups(
    groups: dict[str, str],
    labels: dict[str, str],
    train_labels: str,
    calibrated: list[str],
    ablations: list[str],
    methods: list[dict],
    targets: list[str],
    baseline: str,
    policy: dict,
    path: str,
) -> None:
    """Write the group table: of each row of the ablation table one for each group of its speakers.

    Args:
        groups: of each evaluated split, in the table's order, the values of its speakers: `speaker_id` and a column for
            each property of the config's `corpus.groups`
        labels: the labels file of each of these splits
        ablations: in the table's order
        policy: what `moments.Policy` takes
    """
    policy, methods = Policy(**policy), read_methods(methods)
    runs = find_runs(calibrated)
    train_mean = read_labels(train_labels, targets).values.mean(axis=0)
    rows = []
    for split, file in groups.items():
        paths = {(ablation, seed): run for (ablation, seed, name), run in runs.items() if name == split}
        speakers, cells = build_cells(paths, read_labels(labels[split], targets), methods, baseline, train_mean)
        members = find_members(file, speakers)
        for cell in cells:
            key = {"ablation": cell.ablation, "calibration": cell.calibration}
            key |= {"target": targets[cell.target], "split": split}
            if cell.ablation in ablations:
                key["n_seeds"] = cell.n_seeds
            family = "groups" if name_family(key, ablations, methods) else ""
            for (group, value), member in members.items():
                score = score_group(cell, member, policy)
                rows.append({"group": group, "value": value} | key | score | {"family": family})
    adjust_families(rows, ["gap_a_ccc"])
    first = {"value": sorted({row["value"] for row in rows}), "ablation": ablations, "target": targets}
    order = {key: list(dict.fromkeys([*first.get(key, ()), *(row[key] for row in rows)])) for key in GROUP_COLUMNS[:6]}
    rows.sort(key=lambda row: [order[key].index(row[key]) for key in order])
    write_csv(path, GROUP_COLUMNS, rows)


def find_members(file: str, speakers: list[str]) -> dict[tuple[str, str], np.ndarray]:
    """Which of the speakers (speakers,) are of a group, by its column and value."""
    rows = {row["speaker_id"]: row for row in read_rows(file)}
    members = {}
    for group in list(next(iter(rows.values())))[1:]:
        values = np.array([rows[speaker][group] for speaker in speakers])
        members |= {(group, str(value)): values == value for value in np.unique(values)}
    return members


def score_group(cell: Cell, member: np.ndarray, policy: Policy) -> dict:
    """The figures of a row for the speakers of a group alone, and the gap: its A-CCC minus that of all other speakers.

    A gap is over other speakers under the same seeds (`intervals.estimate_gap`), and has an interval where both sides
    have the speakers for one.
    """
    own, others = cell.take(member), cell.take(~member)
    row, n_others = score_cell(own, policy), int(policy.count(others.moments).sum())
    notes = [row.get("note")]
    if n_others < MIN_SPEAKERS:
        notes.append(f"{n_others} other speakers: too few for an interval of the gap")
    if row["n_speakers"] and n_others:
        sides = [value_a_ccc(each.moments, policy.count(each.moments), cell.n_seeds) for each in (own, others)]
        gap = estimate_gap(*sides)
        row |= describe_delta("gap_a_ccc", gap)
        if gap.enough and (text := explain_gaps(MIN_SPEAKERS, [gap])) not in row["note"]:
            notes.append(f"gap: {text}")
    return row | {"note": "; ".join(filter(None, notes))}
