"""What a bundle knows of training speakers and of errors on validation speakers, without anybody's name."""

import logging

import numpy as np
import pyarrow.compute as pc

from ser.adaptation.neighbours import read_means
from ser.adaptation.prediction_head import read_vectors
from ser.config.calibration_methods import CHOSEN, DRAW, Method
from ser.evaluation.calibration_inputs import References, read_references
from ser.evaluation.recording_scores import measure_errors
from ser.files import DataError
from ser.formats.parquet import read_parquet
from ser.formats.utterances import Utterances, find_rows, read_values
from ser.statistics.conformal import measure_half_width


def collect_references(
    train_labels: str, targets: list[str], train: dict, positions: list[int], least: int, similarity: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays of the training speakers, and their names in the arrays' order.

    The order is that of their label statistics, which has nothing to do with names. `vectors` is (seeds, speakers, W),
    or (1, speakers, W) where all seeds compare the same; `statistics` (speakers, 2 · targets) and `counts` (speakers,).

    Args:
        positions: of the bundle's seeds in the files of `train`
    """
    positions = positions if similarity == "fused" else [0]
    found = [read_references(train_labels, targets, train, position, least) for position in positions]
    first: References = found[0]
    order = np.lexsort(first.statistics.T)
    arrays = {
        "vectors": np.stack([each.vectors[similarity][order] for each in found]),
        "statistics": first.statistics[order],
        "counts": first.counts[order].astype(float),
    }
    return arrays, [first.speakers[number] for number in order]


def collect_placement(head: str, means: list[str]) -> dict[str, np.ndarray]:
    """What gives a new speaker a vector for a personalised encoder: `means` and `vectors`, (speakers, W) each.

    As `speaker_embeddings.write_shard` has them, in an order that has nothing to do with names.
    """
    vectors, features = read_vectors(head), read_means(means)
    known = [speaker for speaker in vectors if speaker in features]
    if not known:
        raise DataError(f"{head}: none of its speakers is among the features that new speakers are compared by")
    arrays = {"means": np.stack([features[s] for s in known]), "vectors": np.stack([vectors[s] for s in known])}
    order = np.lexsort(arrays["vectors"].T[:3])
    return {name: array[order] for name, array in arrays.items()}


def describe_method(method: Method, choices: list[dict], seeds: list[int], targets: list[str]) -> dict | None:
    """A method with what was chosen for it, `points` by seed and target; None where nothing could be chosen."""
    chosen = {(c["seed"], c["target"]): c for c in choices if c["calibration"] == method.name}
    points = [[{key: chosen[seed, target][key] for key in CHOSEN} for target in targets] for seed in seeds]
    if any(point["k"] is None for row in points for point in row):
        logging.warning("%s is left out: no validation speaker had utterances beyond those for enrolment", method.name)
        return None
    return vars(method) | {"points": points}


def measure_half_widths(
    method: Method, validation: list[str], truth: Utterances, fewest: int, coverage: float
) -> list[float | None]:
    """The half-width of the intervals of each target; None where nothing can be promised.

    Of a method that enrols, errors are those of all draws, of what is scored by it: single utterances, averaged over
    seeds and not stretched.
    """
    if method.enrolment:
        widths = _measure_draws(method, validation, truth, coverage)
    else:
        widths = measure_errors(validation, method.name, truth, fewest, coverage)
    return [float(width) if np.isfinite(width) else None for width in widths]


def _measure_draws(method: Method, validation: list[str], truth: Utterances, coverage: float) -> list[float]:
    runs = []
    for path in validation:
        table = read_parquet(path)
        table = table.append_column("draw", table["calibration"].cast("string"))
        table = table.filter(pc.starts_with(table["draw"], method.name + DRAW))
        runs.append(table.sort_by([("draw", "ascending"), ("utterance_id", "ascending")]))  # the same in each run
    average = np.mean([read_values(run, truth.targets) for run in runs], axis=0)
    rows = find_rows(runs[0]["utterance_id"].combine_chunks(), truth.ids, "the predictions has no label")
    errors = np.abs(average - truth.values[rows])
    return [measure_half_width(column, truth.speaker[rows], coverage) for column in errors.T]
