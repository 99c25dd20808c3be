"""Calibrating an ablation's predictions by PLDC: k chosen on validation speakers, then applied to a split."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from ser.config.calibration_methods import CHOSEN, Method, count_enrolled, read_methods
from ser.evaluation.calibration_inputs import References, read_evidence, read_references
from ser.evaluation.observations import (
    Neighbours,
    Observation,
    average_labels,
    find_neighbours,
    fit_speakers,
    observe,
    observe_draws,
)
from ser.files import DataError, read_json, sha256, write_json
from ser.formats.parquet import write_parquet
from ser.formats.utterances import Utterances, read_labels
from ser.statistics.moments import Moments, Policy, measure_speakers, stack


def choose_calibration(
    train_labels: str,
    validation_labels: str,
    train: dict,
    validation: dict,
    seeds: list[int],
    targets: list[str],
    methods: list[dict],
    k: list[int],
    alpha: list[float],
    gate: list[float],
    enrolment_draws: int,
    min_reference_utterances: int,
    policy: dict,
    path: str,
) -> None:
    """Choose k, with it alpha and the gate, by the A-CCC on validation speakers: for each seed, method and target.

    Writes JSON: `chosen_on`, `labels` (the label files read, with their SHA-256), `references` (training speakers who
    can be neighbours, and those left out with too few labelled utterances), and `choices`, a list of `seed,
    calibration, target, k, alpha, max_similarity, a_ccc` and `curve`, the A-CCC of every point of the grid. Of equal
    A-CCCs the first k, then the first alpha, then the first share of the gate, wins. `k` is null if no validation
    speaker has utterances beyond those for enrolment. Random neighbours get the k of the nearest, so that the two
    differ in who the neighbours are only.

    Args:
        train, validation: files of the splits, as `calibration_inputs` takes them
        k, alpha, gate: the grids
    """
    policy, methods = Policy(**policy), read_methods(methods)
    labels = read_labels(validation_labels, targets)
    choices = []
    for number, seed in enumerate(seeds):
        references = read_references(train_labels, targets, train, number, min_reference_utterances)
        evidence = read_evidence(targets, validation, number, enrolment_draws, count_enrolled(methods))
        truth = evidence.align(labels)
        for method in methods:
            draws = range(enrolment_draws) if method.enrolment else [0]
            seen = [observe(evidence, method, draw) for draw in draws]
            near = [find_neighbours(method, each, references) for each in seen]
            grid = list_points(method, near[0], k, alpha, gate)
            scores = measure_grid(method, grid, seen, near, evidence.predictions, truth, references, policy)
            for target, a_ccc in zip(targets, scores, strict=True):
                choice = {"seed": seed, "calibration": method.name, "target": target}
                choices.append(choice | choose(grid, a_ccc))
    made_of = {name: sha256(name) for name in (train_labels, validation_labels)}
    known = {"used": len(references.speakers), "few_utterances": references.left_out}
    write_json(path, {"chosen_on": "validation", "labels": made_of, "references": known, "choices": choices})


def list_points(method: Method, near: Neighbours, k: list[int], alpha: list[float], gate: list[float]) -> list[dict]:
    """The grid that a method is chosen from: points of `k, alpha, max_similarity`.

    A gate's share q of the speakers, those least similar to their k neighbours, have the threshold at the q-quantile
    of these similarities; all of them have none.
    """
    most = near.order.shape[1]
    points = []
    for count in [most] if method.neighbours == "all" else sorted({min(value, most) for value in k}):
        limits = [None]
        if method.gate:
            known = np.sort(near.measure_similarity(count))
            limits = [None if q == 1 else float(known[max(int(np.ceil(q * len(known))) - 1, 0)]) for q in gate]
        shares = alpha if method.keeps_share else [None]
        points += [{"k": count, "alpha": share, "max_similarity": limit} for share in shares for limit in limits]
    return points


def measure_grid(
    method: Method,
    grid: list[dict],
    seen: list[Observation],
    near: list[Neighbours],
    predictions: Utterances,
    truth: np.ndarray,
    references: References,
    policy: Policy,
) -> list[np.ndarray | None]:
    """The A-CCC of each point, averaged over draws, (points,), for each target; None where no speaker counts.

    PLDC is a straight line a speaker, so that the calibrated CCC follows from the moments of the uncalibrated.

    Args:
        seen, near: what the method sees in each draw
    """
    targets, n_speakers = range(truth.shape[1]), len(predictions.speakers)
    own = [
        [
            measure_speakers(truth[o.rows, t], predictions.values[o.rows, t], predictions.speaker[o.rows], n_speakers)
            for o in seen
        ]
        for t in targets
    ]  # of each target and draw
    counted = [policy.count(stack(draws, of_same_utterances=False)) for draws in own]
    for t in targets:
        if not counted[t].any() and not method.enrolment:
            raise DataError(
                f"calibration: no validation speaker has {policy.min_utterances} utterances with different "
                f"{predictions.targets[t]} labels (evaluation: min_utterances), so that k cannot be chosen"
            )
    scores = np.zeros((len(targets), len(grid)))
    for d, (each, neighbours) in enumerate(zip(seen, near, strict=True)):
        labels = {k: average_labels(method, neighbours, references, k) for k in {point["k"] for point in grid}}
        for p, point in enumerate(grid):
            slope, new_mean = fit_speakers(method, point, each, neighbours, labels[point["k"]])
            for t in targets:
                ccc = calibrate_moments(own[t][d], slope[:, t], each.mean[:, t], new_mean[:, t]).ccc
                scores[t, p] += ccc[counted[t]].sum()
    return [scores[t] / (len(seen) * counted[t].sum()) if counted[t].any() else None for t in targets]


def calibrate_moments(own: Moments, slope: np.ndarray, mean: np.ndarray, new_mean: np.ndarray) -> Moments:
    """The moments after `fit_line`'s calibration."""
    return own.transform(slope, slope * (own.mean_pred - mean) + new_mean)


def choose(grid: list[dict], a_ccc: np.ndarray | None) -> dict:
    """The best point of a grid, with the whole grid as the curve."""
    if a_ccc is None:
        return dict.fromkeys((*CHOSEN, "a_ccc")) | {"curve": []}
    curve = [point | {"a_ccc": round(float(score), 9)} for point, score in zip(grid, a_ccc, strict=True)]
    return max(curve, key=lambda point: point["a_ccc"]) | {"curve": curve}


def calibrate_split(
    train_labels: str,
    choices: str,
    train: dict,
    split: dict,
    seeds: list[int],
    targets: list[str],
    methods: list[dict],
    enrolment_draws: int,
    min_reference_utterances: int,
    random_draws: int,
    random_seed: int,
    paths: list[str],
) -> None:
    """Write a split's calibrated predictions, one file per seed: `utterance_id, speaker_id, calibration` and targets.

    One row per utterance and calibration: first `none`, the predictions as they are, then the methods in the config's
    order; a method with random neighbours, or with enrolment, is there once a draw (`random_k/00`, ...), one with
    enrolment only for the utterances that no method enrols in that draw. The file's metadata name the label and
    choice files it was made from.
    """
    chosen = {(c["seed"], c["calibration"], c["target"]): c for c in read_json(choices)["choices"]}
    made_from = {"labels": json.dumps({train_labels: sha256(train_labels)}), "choices": sha256(choices)}
    made_from["enrolment_labels"] = json.dumps({name: sha256(name) for name in split["enrolment_labels"]})
    methods = read_methods(methods)
    for number, (seed, path) in enumerate(zip(seeds, paths, strict=True)):
        references = read_references(train_labels, targets, train, number, min_reference_utterances)
        evidence = read_evidence(targets, split, number, enrolment_draws, count_enrolled(methods))
        blocks = [("none", np.arange(len(evidence.predictions.ids)), evidence.predictions.values)]
        for method in methods if evidence.predictions.speakers else []:
            points = [chosen[seed, method.name, target] for target in targets]
            if any(point["k"] is None for point in points):
                continue
            for name, seen, near in observe_draws(method, evidence, references, random_draws, random_seed):
                values = apply_choice(method, points, seen, near, references, evidence.predictions)
                blocks.append((name, seen.rows, values))
        write_calibrated(path, evidence.predictions, blocks, made_from)


def apply_choice(
    method: Method,
    points: list[dict],
    seen: Observation,
    near: Neighbours,
    references: References,
    predictions: Utterances,
) -> np.ndarray:
    """The calibrated values of a method's rows, (rows, targets), with what was chosen for each target."""
    speaker, columns = predictions.speaker[seen.rows], []
    for t, point in enumerate(points):
        labels = average_labels(method, near, references, point["k"])
        slope, new_mean = fit_speakers(method, point, seen, near, labels)
        values = predictions.values[seen.rows, t]
        columns.append(slope[speaker, t] * (values - seen.mean[speaker, t]) + new_mean[speaker, t])
    return np.stack(columns, axis=1)


def write_calibrated(path: str | Path, predictions: Utterances, blocks: list, made_from: dict[str, str]) -> None:
    """Write blocks of (calibration, rows of the predictions, values) as one table."""
    rows = np.concatenate([block[1] for block in blocks])
    values = np.concatenate([block[2] for block in blocks]).astype(np.float32)
    names = np.repeat(np.arange(len(blocks), dtype=np.int32), [len(block[1]) for block in blocks])
    columns = {
        "utterance_id": predictions.ids.take(pa.array(rows)),
        "speaker_id": pa.array(predictions.speakers, pa.string()).take(pa.array(predictions.speaker[rows])),
        "calibration": pa.DictionaryArray.from_arrays(pa.array(names), [block[0] for block in blocks]),
    }
    columns |= {target: pa.array(values[:, t]) for t, target in enumerate(predictions.targets)}
    table = pa.table(columns).replace_schema_metadata(made_from)
    # Predictions hardly repeat: looking for repetitions takes half of the time.
    write_parquet(path, table, use_dictionary=list(columns)[:3])
