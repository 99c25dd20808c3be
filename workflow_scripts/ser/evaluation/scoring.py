"""The figures of one row of the tables, with intervals and paired differences, from moments per speaker."""

import numpy as np

from ser.evaluation.cells import Cell
from ser.statistics.bootstrap import average_speakers, find_interval
from ser.statistics.moments import Policy

ROUNDING = 1e-6  # predictions are float32: a smaller change of a CCC is neither help nor harm


def score_cell(cell: Cell, weights: np.ndarray, policy: Policy) -> dict:
    """The figures of a row: metrics are computed per run and averaged; None where a figure does not exist."""
    moments, reference = cell.moments, cell.reference
    counted, present = policy.count(moments), moments.n > 0
    row = {"n_speakers": int(counted.sum()), "n_utterances": int(moments.n.sum())}
    if not present.any():
        return row
    pooled, ccc = moments.pool(), average_runs(moments.ccc)
    row |= {"o_ccc": np.mean(pooled.ccc), "pearson": np.mean(pooled.pearson), "rmse": np.mean(pooled.rmse)}
    o_draws = average_runs(moments.pool(weights).ccc)
    row |= name_interval("o_ccc", find_interval(o_draws, present.sum()))
    if reference is not None:
        row["delta_o_ccc"] = row["o_ccc"] - np.mean(reference.pool().ccc)
        difference = o_draws - average_runs(reference.pool(weights).ccc)
        row |= name_interval("delta_o_ccc", find_interval(difference, present.sum()))
    if counted.any():
        row["a_ccc"] = ccc[counted].mean()
        row |= name_interval("a_ccc", find_interval(average_speakers(ccc, counted, weights), counted.sum()))
        if counted.sum() > 1:
            row["a_ccc_sd"] = ccc[counted].std(ddof=1)
        if reference is not None:
            delta = ccc - average_runs(reference.ccc)
            row["delta_a_ccc"] = delta[counted].mean()
            draws = average_speakers(delta, counted, weights)
            row |= name_interval("delta_a_ccc", find_interval(draws, counted.sum()))
    return row


def average_runs(values: np.ndarray) -> np.ndarray:
    """The mean over runs: (runs, x) -> (x,)."""
    return np.mean(np.atleast_2d(values), axis=0)


def name_interval(metric: str, interval: tuple[float, float] | None) -> dict:
    """An interval as the two cells of a row; none, no cells."""
    return {f"{metric}_low": interval[0], f"{metric}_high": interval[1]} if interval else {}


def list_speakers(cell: Cell, speakers: list[str], policy: Policy) -> list[dict]:
    """The rows of `speaker_table.csv`; the CCC of a speaker that A-CCC leaves out is empty."""
    moments, counted = cell.moments, policy.count(cell.moments)
    columns = {
        "ccc": np.where(counted, average_runs(moments.ccc), np.nan),
        "mean_true": moments.mean_true,
        "mean_pred": average_runs(moments.mean_pred),
        "sd_true": np.sqrt(moments.var_true),
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
