"""Calibrating an ablation's predictions by PLDC: k chosen on validation speakers, then applied to a split."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ser.config.calibration_methods import DRAW, Method, read_methods
from ser.evaluation.calibration_inputs import Evidence, References, read_evidence, read_references
from ser.files import DataError, read_json, sha256, write_json
from ser.formats.parquet import write_parquet
from ser.formats.utterances import Utterances, read_labels
from ser.statistics.moments import Moments, Policy, measure_speakers
from ser.statistics.pldc import average_neighbours, fit_line, weigh_neighbours
from ser.statistics.similarity import rank_neighbours


@dataclass(frozen=True)
class Observation:
    """What a method has of the speakers that it calibrates."""

    mean: np.ndarray  # (speakers, targets) of the predictions that the method may look at
    std: np.ndarray  # (speakers, targets), population
    vectors: np.ndarray  # (speakers, width)
    rows: np.ndarray  # (utterances,) rows of the predictions that are calibrated, and scored


def observe(evidence: Evidence, method: Method) -> Observation:
    """The statistics, vectors and rows of a method: all utterances, or those for enrolment and the rest."""
    predictions = evidence.predictions
    if method.enrolment:
        enrolled, vectors = evidence.enrol(method.enrolment)
    else:
        enrolled, vectors = np.ones(len(predictions.ids), bool), evidence.vectors[method.similarity]
    speaker, n_speakers = predictions.speaker[enrolled], len(predictions.speakers)
    values = predictions.values[enrolled]
    own = [measure_speakers(column, column, speaker, n_speakers) for column in values.T]
    return Observation(
        np.stack([m.mean_pred for m in own], axis=1),
        np.sqrt(np.stack([m.var_pred for m in own], axis=1)),
        vectors,
        np.flatnonzero(~enrolled) if method.enrolment else np.arange(len(predictions.ids)),
    )


def find_neighbours(method: Method, seen: Observation, references: References) -> tuple[np.ndarray, np.ndarray]:
    """The references by similarity, and the weights a method gives them: two (speakers, references) arrays."""
    order, cosine = rank_neighbours(seen.vectors, references.vectors[method.similarity])
    return order, weigh_neighbours(cosine) if method.weighting == "similarity" else np.ones_like(cosine)


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
    min_reference_utterances: int,
    policy: dict,
    path: str,
) -> None:
    """Choose k, and alpha with it, by the A-CCC on validation speakers: for each seed, method and target.

    Writes JSON: `chosen_on`, `labels` (the label files read, with their SHA-256), and `choices`, a list of `seed,
    calibration, target, k, alpha, a_ccc` and `curve`, the A-CCC of every k and alpha. Of equal A-CCCs the first k,
    then the first alpha, wins. `k` is null if no validation speaker has utterances beyond those for enrolment.
    Random neighbours get the k of the nearest, so that the two differ in who the neighbours are only.

    Args:
        train, validation: files of the splits, as `evidence.read_references` and `read_evidence` take them
        k, alpha: the grids
    """
    policy = Policy(**policy)
    labels = read_labels(validation_labels, targets)
    choices = []
    for number, seed in enumerate(seeds):
        references = read_references(train_labels, targets, train, number, min_reference_utterances)
        evidence = read_evidence(targets, validation, number)
        truth = evidence.align(labels)
        for method in read_methods(methods):
            grid = sorted({min(value, len(references.speakers)) for value in k})
            shares = alpha if method.shrinkage else [0.0]
            if method.neighbours == "all":
                grid = [len(references.speakers)]
            scores = measure_grid(method, evidence, truth, references, grid, shares, policy)
            for target, a_ccc in zip(targets, scores, strict=True):
                choice = {"seed": seed, "calibration": method.name, "target": target}
                choices.append(choice | choose(a_ccc, grid, shares, method))
    label_files = {name: sha256(name) for name in (train_labels, validation_labels)}
    write_json(path, {"chosen_on": "validation", "labels": label_files, "choices": choices})


def measure_grid(
    method: Method,
    evidence: Evidence,
    truth: np.ndarray,
    references: References,
    k: list[int],
    alpha: list[float],
    policy: Policy,
) -> list[np.ndarray | None]:
    """The A-CCC of each k and alpha, (len(k), len(alpha)), for each target; None where no speaker counts.

    PLDC is a straight line a speaker, so that the calibrated CCC follows from the moments of the uncalibrated.
    """
    seen, predictions = observe(evidence, method), evidence.predictions
    order, weights = find_neighbours(method, seen, references)
    average = average_neighbours(order, weights, references.statistics, k)  # (S, k, 2 * targets)
    speaker, grids = predictions.speaker[seen.rows], []
    for t in range(truth.shape[1]):
        own = measure_speakers(truth[seen.rows, t], predictions.values[seen.rows, t], speaker, len(seen.mean))
        counted = policy.count(own)
        if not counted.any():
            if not method.enrolment:
                raise DataError(
                    f"calibration: no validation speaker has {policy.min_utterances} utterances with different "
                    f"{predictions.targets[t]} labels (evaluation: min_utterances), so that k cannot be chosen"
                )
            grids.append(None)
            continue
        mean, std = seen.mean[:, t, None, None], seen.std[:, t, None, None]
        means, stds = (average[:, :, column, None] for column in (t, truth.shape[1] + t))  # (S, k, 1)
        slope, new_mean = fit_line(method.shift, mean, std, means, stds, np.asarray(alpha))  # (S, k, alpha)
        own = Moments(*(values[:, None, None] for values in vars(own).values()))
        ccc = own.transform(slope, slope * (own.mean_pred - mean) + new_mean).ccc
        grids.append(np.broadcast_to(ccc, (len(counted), len(k), len(alpha)))[counted].mean(axis=0))
    return grids


def choose(a_ccc: np.ndarray | None, k: list[int], alpha: list[float], method: Method) -> dict:
    """The best point of a grid, with the whole grid as the curve."""
    if a_ccc is None:
        return {"k": None, "alpha": None, "a_ccc": None, "curve": []}
    curve = [
        {"k": k[i], "alpha": alpha[j] if method.shrinkage else None, "a_ccc": round(float(a_ccc[i, j]), 9)}
        for i, j in np.ndindex(a_ccc.shape)
    ]
    return max(curve, key=lambda point: point["a_ccc"]) | {"curve": curve}


def calibrate_split(
    train_labels: str,
    choices: str,
    train: dict,
    split: dict,
    seeds: list[int],
    targets: list[str],
    methods: list[dict],
    min_reference_utterances: int,
    random_draws: int,
    random_seed: int,
    paths: list[str],
) -> None:
    """Write a split's calibrated predictions, a file a seed: `utterance_id, speaker_id, calibration` and the targets.

    A row an utterance and calibration: first `none`, the predictions as they are, then the methods in the config's
    order; a method with random neighbours is there once a draw (`random_k/00`, ...), one with enrolment only for the
    utterances that are not enrolled. The file's metadata name the label and choice files it was made from.
    """
    chosen = {(c["seed"], c["calibration"], c["target"]): c for c in read_json(choices)["choices"]}
    made_from = {"labels": json.dumps({train_labels: sha256(train_labels)}), "choices": sha256(choices)}
    for number, (seed, path) in enumerate(zip(seeds, paths, strict=True)):
        references = read_references(train_labels, targets, train, number, min_reference_utterances)
        evidence = read_evidence(targets, split, number)
        blocks = [("none", np.arange(len(evidence.predictions.ids)), evidence.predictions.values)]
        for method in read_methods(methods) if evidence.predictions.speakers else []:
            points = [chosen[seed, method.name, target] for target in targets]
            if any(point["k"] is None for point in points):
                continue
            seen = observe(evidence, method)
            order, weights = find_neighbours(method, seen, references)
            orders = {method.name: order}
            if method.neighbours == "random":
                orders = draw_neighbours(method, order.shape, random_draws, random_seed)
            for name, order in orders.items():
                values = apply_choice(method, points, seen, order, weights, references, evidence.predictions)
                blocks.append((name, seen.rows, values))
        write_calibrated(path, evidence.predictions, blocks, made_from)


def draw_neighbours(method: Method, shape: tuple[int, int], draws: int, seed: int) -> dict[str, np.ndarray]:
    """References in random orders by name of the draw, each (speakers, references): the same for every ablation."""
    references = np.tile(np.arange(shape[1]), (shape[0], 1))
    return {
        f"{method.name}{DRAW}{draw:02d}": np.random.default_rng([seed, draw]).permuted(references, axis=1)
        for draw in range(draws)
    }


def apply_choice(
    method: Method,
    points: list[dict],
    seen: Observation,
    order: np.ndarray,
    weights: np.ndarray,
    references: References,
    predictions: Utterances,
) -> np.ndarray:
    """The calibrated values of a method's rows, (rows, targets), with the k and alpha of each target."""
    speaker, columns = predictions.speaker[seen.rows], []
    for t, point in enumerate(points):
        statistics = references.statistics[:, [t, len(points) + t]]
        mean, std = average_neighbours(order, weights, statistics, [point["k"]])[:, 0].T  # (speakers,) each
        own_mean, own_std = seen.mean[:, t], seen.std[:, t]
        slope, new_mean = fit_line(method.shift, own_mean, own_std, mean, std, point["alpha"] or 0.0)
        values = predictions.values[seen.rows, t]
        columns.append(slope[speaker] * (values - own_mean[speaker]) + new_mean[speaker])
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
