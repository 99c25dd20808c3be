"""The figures of one row of the tables, with intervals and paired differences, from moments per speaker."""

from collections.abc import Iterable

import numpy as np

from ser.evaluation.cells import Cell
from ser.statistics.intervals import MIN_SPEAKERS, Estimate, estimate, estimate_difference
from ser.statistics.moments import Moments, Policy
from ser.statistics.seed_values import value_a_ccc, value_o_ccc

ROUNDING = 1e-6  # predictions are float32: a smaller change of a CCC is neither help nor harm


def score_cell(cell: Cell, policy: Policy) -> dict:
    """The figures of a row: metrics are computed per run and averaged; None where a figure does not exist.

    Intervals are of `intervals.Estimate`: over new speakers and new training seeds. A row of too few speakers has none.
    Nor has a difference between ablations of one seed, which another seed could turn round. `note` says so.
    """
    moments, counted = cell.moments, policy.count(cell.moments)
    row = {"n_speakers": int(counted.sum()), "n_utterances": int(moments.n.sum())}
    if not moments.n.any():
        return row
    pooled = moments.pool()
    row |= {"pearson": np.mean(pooled.pearson), "rmse": np.mean(pooled.rmse)}
    deltas, figures = compare_cell(cell, policy), []
    for metric, (figure, by_seed) in measure_cell(cell, policy).items():
        figures.append(figure)
        row |= {metric: figure.value} | name_interval(metric, figure.interval())
        row[f"{metric}_seed_sd"] = float(np.std(by_seed, ddof=1)) if np.size(by_seed) > 1 else None
    if counted.any():
        ccc = average_runs(moments.ccc)[counted]
        row["a_ccc_sd"] = ccc.std(ddof=1) if len(ccc) > 1 else None
    return row | describe_deltas(deltas) | {"note": explain_gaps(row["n_speakers"], list(deltas.values()), figures)}


def measure_cell(cell: Cell, policy: Policy) -> dict[str, tuple[Estimate, np.ndarray]]:
    """A row's own metrics, with their values by seed, (seeds,) or ()."""
    o_by_seed, o_values = value_o_ccc(cell.moments, cell.n_seeds)
    found = {"o_ccc": (estimate(o_values, np.mean(o_by_seed)), o_by_seed)}
    if (counted := policy.count(cell.moments)).any():
        values = value_a_ccc(cell.moments, counted, cell.n_seeds)
        found["a_ccc"] = estimate(values), values.mean(axis=-1)
    return found


def compare_cell(cell: Cell, policy: Policy) -> dict[str, Estimate]:
    """The differences from what a row is compared with: paired by seed within an ablation, and always by speaker."""
    return {} if cell.reference is None else compare_moments(cell.moments, cell.reference, cell, policy)


def compare_moments(moments: Moments, reference: Moments, cell: Cell, policy: Policy) -> dict[str, Estimate]:
    """The differences of two sets of predictions of the same utterances, as `cell` pairs them."""
    (o_ccc, o_values), (o_other, others) = (value_o_ccc(each, cell.n_seeds) for each in (moments, reference))
    pairs = {"o_ccc": (o_values, others, np.mean(o_ccc) - np.mean(o_other))}
    if (counted := policy.count(moments)).any():
        pairs["a_ccc"] = *(value_a_ccc(each, counted, cell.n_seeds) for each in (moments, reference)), None
    return {
        metric: estimate(values - other, value) if cell.paired else estimate_difference(values, other, value)
        for metric, (values, other, value) in pairs.items()
    }


def contrast_cells(cells: list[Cell], studied: str, policy: Policy) -> list[dict]:
    """The studied calibration against each of its controls, of the same ablation and target: rows of the contrasts."""
    rows, own = [], {(cell.ablation, cell.target): cell for cell in cells if cell.calibration == studied}
    for cell in cells:
        one = own.get((cell.ablation, cell.target))
        if cell.calibration == studied or one is None:
            continue
        deltas = compare_moments(one.moments, cell.moments, one, policy)
        key = {"ablation": cell.ablation, "calibration": studied, "against": cell.calibration, "target": cell.target}
        row = key | {"n_speakers": int(policy.count(one.moments).sum()), "n_seeds": one.n_seeds}
        row |= {"n_utterances": int(one.moments.n.sum())}
        note = explain_gaps(row["n_speakers"], list(deltas.values()))
        rows.append(row | describe_deltas(deltas) | {"note": note})
    return rows


def can_tell(delta: Estimate) -> bool:
    """Whether a difference may have an interval: of one seed it has one only where both sides share that seed."""
    return delta.enough and (delta.seeds_known or delta.paired)


def describe_deltas(deltas: dict[str, Estimate]) -> dict:
    """The cells of the differences by metric, and of the difference in A-CCC that could have been found."""
    row = {}
    for metric, delta in deltas.items():
        row |= describe_delta(f"delta_{metric}", delta)
    if delta := deltas.get("a_ccc"):
        row["detectable_delta"] = delta.detectable() if can_tell(delta) else None
    return row


def describe_delta(name: str, delta: Estimate) -> dict:
    """The cells of a difference: its value, interval, p, and the size that it has not (`Estimate.bound`)."""
    if not can_tell(delta):
        return {name: delta.value}
    tested = {f"{name}_p": delta.p_value, f"{name}_bound": delta.bound()}
    return {name: delta.value} | name_interval(name, delta.interval(), clip=False) | tested


def explain_gaps(n_speakers: int, deltas: list[Estimate], figures: Iterable[Estimate] = ()) -> str:
    """Why a row has no interval, or one that says less than another's."""
    notes = []
    if n_speakers < MIN_SPEAKERS:
        notes.append(f"{n_speakers} speakers: too few for an interval")
    if any(not delta.seeds_known for delta in deltas):
        paired = all(delta.paired for delta in deltas)
        notes.append("one seed: of the trained model alone" if paired else "one seed: the variance of seeds is unknown")
    if any(each.enough and each.seed_variance > each.speaker_variance for each in (*figures, *deltas)):
        notes.append("seeds differ more than speakers: train more of them")
    return "; ".join(notes)


def average_runs(values: np.ndarray) -> np.ndarray:
    """The mean over runs: (runs, x) -> (x,)."""
    return np.mean(np.atleast_2d(values), axis=0)


def name_interval(metric: str, interval: tuple[float, float] | None, clip: bool = True) -> dict:
    """An interval as the two cells of a row, a CCC's within [-1, 1]; none, no cells."""
    if interval is None:
        return {}
    low, high = np.clip(interval, -1, 1) if clip else interval
    return {f"{metric}_low": low, f"{metric}_high": high}


def list_speakers(cell: Cell, speakers: list[str], policy: Policy) -> list[dict]:
    """The rows of `speaker_table.csv`; the CCC of a speaker that A-CCC leaves out is empty."""
    moments, counted = cell.moments, policy.count(cell.moments)
    columns = {
        "ccc": np.where(counted, average_runs(moments.ccc), np.nan),
        "mean_true": average_runs(moments.mean_true),
        "mean_pred": average_runs(moments.mean_pred),
        "sd_true": average_runs(np.sqrt(moments.var_true)),
        "sd_pred": average_runs(np.sqrt(moments.var_pred)),
    }
    if cell.reference is not None:
        columns["delta_ccc"] = columns["ccc"] - average_runs(cell.reference.ccc)
    return [
        {"speaker_id": speakers[s], "n": int(moments.n[s])}
        | {name: values[s] for name, values in columns.items() if np.isfinite(values[s])}
        for s in np.flatnonzero(moments.n)
    ]


def summarise_speakers(cell: Cell, policy: Policy) -> dict:
    """The row of `speaker_summary.csv`: who is counted, who is helped and harmed, and how unequal they fare."""
    n, counted = cell.moments.n, policy.count(cell.moments)
    enough = n >= policy.min_utterances
    row = {
        "n_speakers": int(counted.sum()),
        "n_few_utterances": int(((n > 0) & ~enough).sum()),
        "n_constant_labels": int(((n > 0) & enough & ~counted).sum()),
        "n_only_enrolment": int((n == 0).sum()),
    }
    if not counted.any():
        return row
    ccc = average_runs(cell.moments.ccc)[counted]
    worst = np.sort(ccc)[: -(-len(ccc) // 10)]  # a tenth of the speakers, rounded up
    row |= {"worst_decile_ccc": worst.mean(), "gini_ccc": compute_gini(np.maximum(ccc, 0))}
    if cell.reference is not None:
        delta = ccc - average_runs(cell.reference.ccc)[counted]
        row |= {"share_helped": np.mean(delta > ROUNDING), "share_harmed": np.mean(delta < -ROUNDING)}
    return row


def compute_gini(values: np.ndarray) -> float | None:
    """The Gini coefficient of non-negative values: 0, all alike, to (n - 1) / n, one has all; None if all are 0."""
    values, n = np.sort(values), len(values)
    if values.sum() == 0:
        return None
    return float(2 * np.sum(np.arange(1, n + 1) * values) / (n * values.sum()) - (n + 1) / n)
