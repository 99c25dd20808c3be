"""Tuning: the heads of an ablation trained with every point of a grid, compared on validation speakers."""

import csv
import json
import logging
import tempfile

import keras
import numpy as np
from tqdm import tqdm

from ser.config.ablation import Ablation
from ser.config.tuning_grid import apply_point, list_points
from ser.files import DataError, atomic, write_json
from ser.heads.training import train_ablation


def tune_ablation(
    ablation: Ablation, grid: dict[str, list], *, seeds: list[int], targets: list[str], table: str, winner: str, **files
) -> None:
    """Train an ablation with every point of the grid; write one row per point, best first, and the best one's settings.

    `table` (CSV) has the grid's keys and, of the epoch that training keeps, the CCC on all validation utterances: `ccc`
    is the mean over targets and seeds, `ccc_sd` its standard deviation over seeds (n - 1; empty with one), then the
    mean of each target over seeds. Of equal points the first wins. `winner` (JSON) has `chosen_on`, `settings`, `ccc`
    and `points`, how many there were. A point scores what `train_ablation` reaches with its settings; `files` are the
    other arguments of that. No other labels are read.
    """
    points = list_points(ablation, grid)
    scores = []
    for number, point in enumerate(tqdm(points, "tuning", unit="point"), 1):
        with tempfile.TemporaryDirectory() as folder:
            try:
                train_ablation(
                    apply_point(ablation, point),
                    seeds=seeds,
                    targets=targets,
                    folder=f"{folder}/models",
                    results=f"{folder}/{{kind}}/seed-{{seed}}/{{split}}.parquet",
                    **files,
                )
            except DataError as error:
                raise DataError(f"tuning: {json.dumps(point)}: {error}") from error
            scores.append([read_score(f"{folder}/models/seed-{seed}/history.csv", targets) for seed in seeds])
        keras.utils.clear_session()
        logging.info("%d of %d: %s: %.4f", number, len(points), json.dumps(point), np.mean(scores[-1]))
    means = np.mean(scores, axis=(1, 2)).round(9)  # (points,)
    order = sorted(range(len(points)), key=lambda i: -means[i])
    header = [*points[0], "ccc", "ccc_sd", *(f"{target}_ccc" for target in targets)]
    rows = []
    for i in order:
        over_seeds = np.mean(scores[i], axis=1)  # (seeds,)
        spread = f"{over_seeds.std(ddof=1):.6f}" if len(seeds) > 1 else ""
        by_target = [f"{value:.6f}" for value in np.mean(scores[i], axis=0)]
        settings = [json.dumps(value) if isinstance(value, list | dict) else value for value in points[i].values()]
        rows.append([*settings, f"{means[i]:.6f}", spread, *by_target])
    with atomic(table) as path, open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    best = order[0]
    chosen = {"chosen_on": "validation", "settings": points[best], "ccc": means[best], "points": len(points)}
    write_json(winner, chosen)


def read_score(history: str, targets: list[str]) -> list[float]:
    """The validation CCC of each target at the epoch that training kept."""
    with open(history, encoding="utf-8", newline="") as file:
        kept = {row["target"]: float(row["validation_ccc"]) for row in csv.DictReader(file) if row["best"] == "1"}
    return [kept[target] for target in targets]  # sorted by epoch: the last best one is the best
