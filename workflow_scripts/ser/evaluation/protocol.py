"""The protocol guard: scoring starts only if no speaker crosses splits and no test label can have helped.

Every file that calibration makes names the files it was made from, with their SHA-256. The guard compares those with
the files as they are now, and scores the validation split again: the figure that k was chosen for must come out.
"""

import json
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from ser.config.calibration_methods import Method, count_labelled, read_methods
from ser.corpus.metadata import REJECTED
from ser.evaluation.calibration_inputs import read_cut
from ser.evaluation.cells import build_cells
from ser.evaluation.observations import name_draw
from ser.files import DataError, read_json, sha256, write_json
from ser.formats.csv_files import read_table
from ser.formats.parquet import read_parquet, read_schema
from ser.formats.utterances import find_rows, find_runs, read_labels, read_values
from ser.statistics.moments import Policy

# Calibrated predictions are stored as float32, and a CCC is of the order of 1.
TOLERANCE = 1e-4


def check_protocol(
    labels: dict[str, str],
    choices: dict[str, str],
    calibrated: list[str],
    methods: list[dict],
    targets: list[str],
    policy: dict,
    path: str,
    enrolment_labels: dict[str, str],
    rejected: str | None = None,
) -> None:
    """Write what was checked, with numbers of speakers and utterances a split; a DataError says what is broken.

    Args:
        labels: the labels file of every split, train and validation among them
        choices: the choices file of every ablation
        enrolment_labels: of each split that is scored the file of the labels that calibration may read, if a method
            enrols speakers with labels
        rejected: the table of utterances that were set aside: they are counted apart, as they are in no other table
    """
    splits = {split: read_parquet(file, columns=["utterance_id", "speaker_id"]) for split, file in labels.items()}
    check_disjoint(splits)
    digests = {file: sha256(file) for file in labels.values()}
    for file in choices.values():
        check_choices(file, {labels[split]: digests[labels[split]] for split in ("train", "validation")})
    runs = find_runs(calibrated)
    enrolled = {split: (file, sha256(file)) for split, file in enrolment_labels.items()}
    methods = read_methods(methods)
    cut = {split: check_cut(file, labels[split], targets, methods) for split, file in enrolment_labels.items()}
    for (ablation, _, split), file in runs.items():
        known = dict([enrolled[split]] if split in enrolled else [])
        check_sources(file, {labels["train"]: digests[labels["train"]]}, known, choices[ablation])
        check_members(file, splits[split], labels[split])
        if split in cut:
            check_enrolled(file, cut[split], methods)
    for ablation, file in choices.items():
        paths = {
            (name, seed): run for (name, seed, split), run in runs.items() if (name, split) == (ablation, "validation")
        }
        check_scores(file, paths, labels["validation"], ablation, methods, targets, Policy(**policy))
    set_aside = {row["utterance_id"] for row in read_table(rejected, REJECTED)} if rejected else set()
    sizes = {split: count_used(table, set_aside) for split, table in splits.items()}
    read = "calibration read training labels only"
    if enrolment_labels:
        read += ", but for those of utterances that speakers are enrolled with, which are not scored"
    checked = [
        "no speaker and no utterance is in two splits",
        "k and alpha were chosen on validation labels, and give the A-CCC that they were chosen for",
        read,
        "every calibrated prediction belongs to a speaker of its split",
    ]
    write_json(path, {"splits": sizes, "calibrated_files": len(runs), "checked": checked})


def count_used(table, set_aside: set[str]) -> dict[str, int]:
    """Speakers and utterances of a split that the other tables are made of, and how many utterances are not."""
    pairs = zip(table["utterance_id"].to_pylist(), table["speaker_id"].to_pylist(), strict=True)
    speakers = [speaker for utterance, speaker in pairs if utterance not in set_aside]
    return {"speakers": len(set(speakers)), "utterances": len(speakers), "set_aside": len(table) - len(speakers)}


def check_disjoint(splits: dict) -> None:
    """Stop where a speaker or an utterance is in two splits (tables of `utterance_id, speaker_id`)."""
    for (one, first), (other, second) in combinations(splits.items(), 2):
        for column, what in (("speaker_id", "speaker"), ("utterance_id", "utterance")):
            shared = sorted(set(first[column].to_pylist()) & set(second[column].to_pylist()))
            if shared:
                raise DataError(
                    f"protocol: {what} {shared[0]!r} is in the splits {one} and {other} ({len(shared)} such); "
                    "expected splits without common speakers"
                )


def check_choices(path: str, labels: dict[str, str]) -> None:
    """Stop unless k was chosen on validation, from these label files, as the best of its curve."""
    made = read_json(path)
    if made.get("chosen_on") != "validation" or made.get("labels") != labels:
        raise DataError(
            f"{path}: k was chosen on {made.get('chosen_on')!r} with the labels {sorted(made.get('labels', {}))}; "
            f"expected validation, with {sorted(labels)} as they are now"
        )
    for choice in made["choices"]:
        if choice["curve"] and choice["a_ccc"] != max(point["a_ccc"] for point in choice["curve"]):
            raise DataError(
                f"{path}: k = {choice['k']} of {choice['calibration']}, {choice['target']}, seed {choice['seed']} "
                "does not have the best A-CCC on validation speakers"
            )


def check_sources(path: Path, labels: dict[str, str], enrolled: dict[str, str], choices: str) -> None:
    """Stop unless a file of calibrated predictions was made from these labels and choices, and no others."""
    made_from = read_schema(path).metadata or {}
    read, read_enrolled = (json.loads(made_from.get(key, b"{}")) for key in (b"labels", b"enrolment_labels"))
    if read != labels:
        raise DataError(
            f"{path}: calibration read the labels {sorted(read)}; expected training labels only: "
            f"{sorted(labels)} as they are now"
        )
    if read_enrolled != enrolled:
        raise DataError(
            f"{path}: calibration read the labels {sorted(read_enrolled)} of speakers to be scored; expected "
            + (f"{sorted(enrolled)} as they are now" if enrolled else "none, because no method enrols with labels")
        )
    if made_from.get(b"choices", b"").decode() != sha256(choices):
        raise DataError(f"{path}: was not calibrated with the k and alpha of {choices} as it is now")


def check_cut(path: str, labels: str, targets: list[str], methods: list[Method]) -> dict[int, set[str]]:
    """The utterances whose labels calibration may read, by draw.

    Stop unless the file has, of each speaker and draw, no more labels than a method enrols, and those of the split.
    """
    truth, table = read_labels(labels, targets), read_cut(path, targets)
    rows = find_rows(table["utterance_id"], truth.ids, f"{path} is not in {labels}")
    if not np.array_equal(read_values(table, targets), truth.values[rows], equal_nan=True):
        raise DataError(f"{path}: expected the labels of {labels}; delete it and run again")
    enrolled, counts = defaultdict(set), Counter()
    for draw, utterance, row in zip(table["draw"].to_pylist(), table["utterance_id"].to_pylist(), rows, strict=True):
        enrolled[draw].add(utterance)
        counts[draw, truth.speaker[row]] += 1
    most = count_labelled(methods)
    if counts and max(counts.values()) > most:
        (draw, speaker), count = counts.most_common(1)[0]
        raise DataError(
            f"{path}: has {count} labels of speaker {truth.speakers[speaker]} in draw {draw}, expected at most {most}, "
            "as many as a method enrols"
        )
    return enrolled


def check_enrolled(path: Path, enrolled: dict[int, set[str]], methods: list[Method]) -> None:
    """Stop where an utterance whose label calibration could read is scored in the same draw."""
    names = {name_draw(method, draw): draw for method in methods if method.enrolment for draw in enrolled}
    table = read_parquet(path, columns=["utterance_id", "calibration"])
    calibration = table["calibration"].cast("string")
    for name, draw in names.items():
        scored = table["utterance_id"].filter(pc.equal(calibration, name))
        if both := enrolled[draw].intersection(scored.to_pylist()):
            raise DataError(f"{path}: {name} has utterance {min(both)!r}, whose label calibration could read")


def check_members(path: Path, members, labels: str) -> None:
    """Stop where a calibrated utterance is not one of its split, by the same speaker."""
    table = read_parquet(path, columns=["utterance_id", "speaker_id"])
    rows = pc.index_in(table["utterance_id"], value_set=members["utterance_id"].combine_chunks())
    known = pc.fill_null(pc.equal(members["speaker_id"].take(rows), table["speaker_id"]), False)
    if not pc.all(known, min_count=0).as_py():
        row = table.filter(pc.invert(known)).slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{path}: utterance {row['utterance_id']!r} of speaker {row['speaker_id']!r} is not in {labels}"
        )


def check_scores(
    choices: str, paths: dict, labels: str, ablation: str, methods: list[Method], targets: list[str], policy: Policy
) -> None:
    """Stop unless each method has, on validation, the A-CCC that its k and alpha were chosen for."""
    chosen = read_json(choices)["choices"]
    seeds = sorted(seed for _, seed in paths)
    nearest = [method for method in methods if method.neighbours != "random"]
    _, cells = build_cells(paths, read_labels(labels, targets), nearest, ablation, [0.0] * len(targets))
    scores = {
        (seed, cell.calibration, targets[cell.target]): ccc[:, counted].mean()
        for cell in cells
        if cell.ablation == ablation and (counted := policy.count(cell.moments)).any()
        for seed, ccc in zip(seeds, np.split(cell.moments.ccc, len(seeds)), strict=True)  # (draws, speakers) each
    }
    names = {method.name for method in nearest}
    for choice in chosen:
        key = choice["seed"], choice["calibration"], choice["target"]
        if choice["calibration"] in names and choice["a_ccc"] is not None:
            score = scores.get(key)
            if score is None or abs(score - choice["a_ccc"]) > TOLERANCE:
                raise DataError(
                    f"{choices}: k = {choice['k']} of {key[1]}, {key[2]}, seed {key[0]} was chosen for an A-CCC of "
                    f"{choice['a_ccc']:.4f} on validation, but the calibrated predictions have {score}"
                )
