"""Speaker vectors in two dimensions with their neighbours, and densities of predictions against labels."""

import numpy as np
import pyarrow.compute as pc
import scipy.linalg

from ser.evaluation.calibration_inputs import read_references
from ser.evaluation.label_shift import correlate
from ser.formats.parquet import read_parquet
from ser.formats.utterances import Utterances, find_rows, find_runs, read_labels, read_values
from ser.report.datasets import Dataset, group_rows
from ser.speakers.vectors import read_vectors
from ser.statistics.moments import Policy, measure_speakers
from ser.statistics.similarity import normalise, rank_neighbours

NEIGHBOURS = 5
BINS = 24


def project(references: np.ndarray, *others: np.ndarray) -> tuple[list[np.ndarray], float]:
    """The first two principal components of the references, and the others in their plane.

    Vectors are scaled to length 1 first, so that distances are those that cosine similarity sees.

    Returns:
        an array (speakers, 2) for the references and each of the others; the share of the variance that the plane holds
    """
    points = normalise(references)
    centre = points.mean(axis=0)
    points = points - centre
    gram = points @ points.T  # (references, references): rarely more than a thousand
    count = len(gram)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=[max(count - 2, 0), count - 1])
    axes = points.T @ (vectors[:, ::-1] / np.sqrt(np.maximum(values[::-1], 1e-12)))  # (width, 2)
    axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1, 1)  # a component's sign is arbitrary
    planes = [points @ axes, *((normalise(other) - centre) @ axes for other in others)]
    total = np.trace(gram)
    return planes, float(values.sum() / total) if total > 0 else 1.0


def collect_vectors(
    train_labels: str,
    labels: dict[str, str],
    vectors: list[str],
    targets: list[str],
    least: int,
    bootstrap: dict,
) -> dict[str, Dataset]:
    """Training speakers, test speakers, the lines from these to their nearest training speakers, and what 2-D keeps.

    Args:
        labels: the labels file of each evaluated split
        vectors: speaker vectors of one seed: of each ablation those of train and of the evaluated splits
        least: labelled utterances that a training speaker needs to be a neighbour
        bootstrap: `draws` and `seed` of the interval of the correlation of neighbours' labels with speakers' own
    """
    means = {split: mean_labels(path, targets) for split, path in labels.items()}
    references, speakers, links, planes_kept, premises = [], [], [], [], []
    runs = find_runs(vectors)
    for ablation in dict.fromkeys(name for name, _, _ in runs):
        paths = {split: str(path) for (name, _, split), path in runs.items() if name == ablation}
        known = read_references(train_labels, targets, {"fused": [paths["train"]]}, 0, least)
        splits = {split: read_vectors([path]) for split, path in paths.items() if split != "train"}
        splits = {split: found for split, found in splits.items() if found}
        stacked = [np.stack(list(found.values())) for found in splits.values()]
        (plane, *planes), share = project(known.vectors["fused"], *stacked)
        planes_kept.append({"ablation": ablation, "share": share})
        statistics = known.statistics
        for number, speaker in enumerate(known.speakers):
            row = {"ablation": ablation, "speaker": speaker, "x": float(plane[number, 0]), "y": float(plane[number, 1])}
            references.extend(
                row | {"target": target, "label": float(statistics[number, t])} for t, target in enumerate(targets)
            )
        for split, own, points in zip(splits, stacked, planes, strict=True):
            order, cosine = rank_neighbours(own, known.vectors["fused"])
            order, cosine = order[:, :NEIGHBOURS], cosine[:, :NEIGHBOURS]
            near = statistics[order, : len(targets)].mean(axis=1)  # (speakers, targets)
            for t, target in enumerate(targets):
                pairs = [(near[n, t], means[split].get((s, target))) for n, s in enumerate(splits[split])]
                found = correlate([pair for pair in pairs if pair[1] is not None], **bootstrap)
                premises.append({"ablation": ablation, "split": split, "target": target} | found)
            for number, speaker in enumerate(splits[split]):
                row = {"ablation": ablation, "split": split, "speaker": speaker}
                row |= {"x": float(points[number, 0]), "y": float(points[number, 1])}
                speakers.extend(
                    row
                    | {"target": target, "near": float(near[number, t]), "label": means[split].get((speaker, target))}
                    for t, target in enumerate(targets)
                )
                links.extend(
                    row
                    | {"neighbour": known.speakers[other], "rank": rank + 1, "cosine": float(cosine[number, rank])}
                    | {"x2": float(plane[other, 0]), "y2": float(plane[other, 1])}
                    for rank, other in enumerate(order[number])
                )
    line = ("speaker", "x", "y", "x2", "y2", "neighbour", "rank", "cosine")
    return {
        "references": group_rows(("target", "ablation"), ("speaker", "x", "y", "label"), references),
        "vectors": group_rows(("split", "target", "ablation"), ("speaker", "x", "y", "label", "near"), speakers),
        "premise": group_rows(("split", "target", "ablation"), ("n_speakers", "r", "r_low", "r_high"), premises),
        "links": group_rows(("split", "ablation"), line, links),
        "planes": group_rows(("ablation",), ("share",), planes_kept),
    }


def mean_labels(path: str, targets: list[str]) -> dict[tuple[str, str], float]:
    """The mean label of each speaker and target; nothing for a target that is withheld."""
    labels, means = read_labels(path, targets), {}
    for t, target in enumerate(targets):
        column = labels.values[:, t]
        if not np.isnan(column).any():
            own = measure_speakers(column, column, labels.speaker, len(labels.speakers)).mean_true
            means |= {(speaker, target): float(mean) for speaker, mean in zip(labels.speakers, own, strict=True)}
    return means


def collect_densities(
    labels: dict[str, str], calibrated: list[str], calibration: str, targets: list[str], label_range: list[float]
) -> tuple[Dataset, Dataset]:
    """Two-dimensional histograms of labels and predictions, averaged over seeds: uncalibrated, and calibrated.

    A row a bin that is not empty: the numbers of the label's bin and the prediction's, and utterances. Predictions
    outside the range of labels count in the outermost bins.
    """
    runs, counts, truths = find_runs(calibrated), {}, {}
    edges = np.linspace(*label_range, BINS + 1)
    seeds = len({seed for _, seed, _ in runs}) or 1
    for (ablation, _, split), path in runs.items():
        if split not in labels:
            continue
        if split not in truths:
            truths[split] = read_labels(labels[split], targets)
        table = read_parquet(path, columns=["utterance_id", "calibration", *targets])
        for name in dict.fromkeys(("none", calibration)):
            part = table.filter(pc.equal(table["calibration"], name))
            if not len(part):
                continue
            predicted = read_values(part, targets)
            truth = _find_truth(part["utterance_id"], truths[split])
            for t, target in enumerate(targets):
                if np.isnan(truth[:, t]).any():
                    continue
                pair = np.clip(truth[:, t], *label_range), np.clip(predicted[:, t], *label_range)
                key = (split, target, ablation, name)
                counts[key] = counts.get(key, 0) + np.histogram2d(*pair, bins=(edges, edges))[0] / seeds
    keys, fields = ("split", "target", "ablation"), ("true", "predicted", "count")
    rows = {name: [] for name in (calibration, "none")}
    for (*key, name), grid in counts.items():
        rows[name].extend(
            dict(zip(keys, key, strict=True)) | {"true": int(x), "predicted": int(y), "count": float(grid[x, y])}
            for x, y in np.argwhere(grid > 0)
        )
    return group_rows(keys, fields, rows["none"]), group_rows(keys, fields, rows[calibration])


def _find_truth(ids, labels: Utterances) -> np.ndarray:
    return labels.values[find_rows(ids, labels.ids, "the calibrated predictions has no label")]


def collect_uncalibrated(labels: str, calibrated: list[str], targets: list[str], policy: dict) -> Dataset:
    """The A-CCC of each seed on validation without calibration: what the choice of k and alpha is held against."""
    truth, policy, rows = read_labels(labels, targets), Policy(**policy), []
    for (ablation, seed, split), path in find_runs(calibrated).items():
        if split != "validation":
            continue
        table = read_parquet(path, columns=["utterance_id", "calibration", *targets])
        part = table.filter(pc.equal(table["calibration"], "none"))
        predicted, order = read_values(part, targets), find_rows(part["utterance_id"], truth.ids, "the predictions")
        speaker = truth.speaker[order]
        for t, target in enumerate(targets):
            own = measure_speakers(truth.values[order, t], predicted[:, t], speaker, len(truth.speakers))
            counted = policy.count(own)
            if counted.any():
                a_ccc = float(own.ccc[counted].mean())
                rows.append({"ablation": ablation, "target": target, "seed": seed, "a_ccc": a_ccc})
    return group_rows(("target", "ablation"), ("seed", "a_ccc"), rows)
