"""Where one cell of the ablation table comes from: everything that made it, found again in a results folder."""

import difflib
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from tqdm import tqdm

from ser.config.calibration_methods import CHOSEN, Method, count_enrolled
from ser.config.tuning_grid import apply_winner
from ser.evaluation.calibration import apply_choice
from ser.evaluation.calibration_inputs import read_evidence, read_references
from ser.evaluation.cells import CONSTANT, SPEAKER_MEAN, build_cells
from ser.evaluation.observations import average_labels, observe_draws
from ser.evaluation.scoring import score_cell
from ser.files import DataError, read_json, sha256
from ser.formats.csv_files import format_cell, read_rows
from ser.formats.parquet import read_parquet
from ser.formats.utterances import read_labels
from ser.statistics.moments import Policy
from ser.tracing.provenance import TABLE, WORKFLOW, command_for
from ser.tracing.study import Study, list_files

KEY = ("ablation", "calibration", "target", "split")
TOLERANCE = 2e-6  # the table has 6 decimals; predictions are float32


def explain_cell(results: str | Path, **cell: str) -> dict:
    """Everything that made a cell of the ablation table, named by its `ablation, calibration, target, split`.

    Raises DataError with near matches for a name that the table does not have, and naming the file for one that is
    gone. Reads the features of the ablation to hash them, which takes as long as the disk needs.
    """
    study = Study(results)
    row = find_row(study.results / TABLE, cell)
    owner = study.config["baseline"] if cell["ablation"] in (CONSTANT, SPEAKER_MEAN) else cell["ablation"]
    encoder, split = study.ablations[owner].encoder, cell["split"]
    method = next((method for method in study.methods if method.name == cell["calibration"]), None)
    calibrated = study.seed_files("calibrated", owner, split)
    if cell["calibration"] == "none" and owner != study.config["baseline"]:
        calibrated += study.seed_files("calibrated", study.config["baseline"], split)  # of the deltas
    files = hash_groups(list_files(study, owner, method, split), study.results)
    return {
        "cell": cell,
        "figures": {name: text for name, text in row.items() if name not in KEY and text},
        "differences": check_row(study, row, cell, owner, method),
        "config": slice_config(study, owner, method),
        "encoder": read_json(study.results / f"encoders/{encoder}/card.json"),
        "tuned": {name: read_json(study.results / name / "card.json") for name in study.tuned_encoders(owner)},
        "corpus": {name: measure_split(study, name) for name in dict.fromkeys(("train", "validation", split))},
        "left_out": study.index["left_out"],
        "files": files,
        "seeds": explain_seeds(study, owner, method, cell) if method else [],
        "code": study.made["code"],
        "code_sha256": hashlib.sha256(json.dumps(study.made["code"], sort_keys=True).encode()).hexdigest(),
        "code_changed_since": list_changed(study.made["code"]),
        "python": study.made["python"],
        "packages": study.made["packages"],
        "git": study.made["git"],
        "command": command_for(calibrated, study.results),
    }


def find_row(table: Path, cell: dict[str, str]) -> dict[str, str]:
    """The table's row of a cell, as text; a DataError says which name is unknown and what is like it."""
    rows = read_rows(table)
    for column in KEY:  # each among the rows that the names before leave
        left = [row for row in rows if row[column] == cell[column]]
        if not left:
            known = list(dict.fromkeys(row[column] for row in rows))
            close = difflib.get_close_matches(cell[column], known, 3, cutoff=0.4)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(known)}"
            raise DataError(f"{table}: has no {column} {cell[column]!r}; {hint}")
        rows = left
    return rows[0]


def check_row(study: Study, row: dict, cell: dict, owner: str, method: Method | None) -> dict[str, list[str]]:
    """The figures that come out differently from calibrated predictions and labels: `{column: [table, now]}`."""
    config, split = study.config, cell["split"]
    baseline = config["baseline"]
    paths = {
        (name, seed): path
        for name in (baseline, owner)
        for seed, path in zip(study.seeds, study.seed_files("calibrated", name, split), strict=True)
    }
    labels = read_labels(study.labels(split), study.targets)
    constant = read_labels(study.labels("train"), study.targets).values.mean(axis=0)
    _, cells = build_cells(paths, labels, [method] if method else [], baseline, constant)
    wanted = (cell["ablation"], cell["calibration"], study.targets.index(cell["target"]))
    found = next(each for each in cells if (each.ablation, each.calibration, each.target) == wanted)
    options = config["evaluation"]
    policy = Policy(options["min_utterances"], options["constant_labels"])
    return {
        name: [row[name], format_cell(value)]
        for name, value in score_cell(found, policy).items()
        if not _agree(row.get(name, ""), value)
    }


def _agree(cell: str, value: float | str | None) -> bool:
    """Whether a cell of the table is a figure as it comes out now, to the table's digits."""
    if not cell or value is None or isinstance(value, str):
        return cell == format_cell(value)
    return abs(float(cell) - value) <= TOLERANCE


def slice_config(study: Study, owner: str, method: Method | None) -> dict:
    """The part of the config that decides a cell."""
    config, calibration, ablation = study.config, {}, study.ablations[owner]
    if ablation.tuned:
        ablation = apply_winner(ablation, study.winner(owner))
    if method:
        calibration = config["calibration"] | {"method": vars(method)}
        del calibration["methods"]
    return {
        "corpus": config["corpus"],
        "audio": config["audio"],
        "encoder": study.encoder(ablation.encoder),
        "ablation": ablation.to_dict(),
        "baseline": config["baseline"],
        "seeds": study.seeds,
        "calibration": calibration,
        "evaluation": config["evaluation"],
    }


def measure_split(study: Study, split: str) -> dict:
    """Speakers, utterances and hours of a split that are in use, and how many utterances were set aside."""
    counts = {"speakers": 0, "utterances": 0, "hours": 0.0, "rejected": 0}
    for path in study.shards("audio", split, "parquet"):
        facts = read_parquet(path, columns=["speaker_id", "status", "duration_s"])
        used = facts.filter(pc.equal(facts["status"], "ok"))
        counts["speakers"] += len(pc.unique(used["speaker_id"]))  # a speaker is in one shard
        counts["utterances"] += len(used)
        counts["hours"] += (pc.sum(used["duration_s"]).as_py() or 0) / 3600
        counts["rejected"] += len(facts) - len(used)
    return counts | {"hours": round(counts["hours"], 3)}


def hash_groups(groups: dict[str, list[Path]], results: Path) -> dict[str, dict[str, str]]:
    """The SHA-256 of each file: `{kind: {path: digest}}`, with a progress bar if it takes longer than a second."""
    paths = [path for group in groups.values() for path in group]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: is gone; make it with: {command_for(missing[:1], results)}")
    with ThreadPoolExecutor() as pool:
        hashes = tqdm(pool.map(sha256, paths), "hashing", len(paths), delay=1, leave=False)
        digests = dict(zip(paths, hashes, strict=True))
    return {kind: {str(path): digests[path] for path in group} for kind, group in groups.items()}


def explain_seeds(study: Study, owner: str, method: Method, cell: dict) -> list[dict]:
    """How each seed's predictions were calibrated: k, alpha, and each speaker's statistics and neighbours.

    `largest_difference` is that between the stored predictions and those calibrated again with these neighbours.
    """
    config, target, split = study.config["calibration"], study.targets.index(cell["target"]), cell["split"]
    choices = read_json(study.results / f"calibration/{owner}/choices.json")["choices"]
    train, files = study.evidence_files(owner, "train"), study.evidence_files(owner, split)
    explained = []
    for number, seed in enumerate(study.seeds):
        points = [
            next(c for c in choices if (c["seed"], c["calibration"], c["target"]) == (seed, method.name, name))
            for name in study.targets
        ]
        entry = {"seed": seed} | {name: points[target][name] for name in CHOSEN}
        entry["a_ccc_on_validation"] = points[target]["a_ccc"]
        explained.append(entry)
        if any(point["k"] is None for point in points):  # no speaker has utterances beyond those for enrolment
            continue
        references = read_references(
            study.labels("train"), study.targets, train, number, config["min_reference_utterances"]
        )
        evidence = read_evidence(study.targets, files, number, config["enrolment_draws"], count_enrolled(study.methods))
        stored = read_parquet(study.seed_files("calibrated", owner, split)[number])
        names, differences, draws = stored["calibration"].cast("string"), [], []
        for draw in observe_draws(method, evidence, references, config["random_draws"], config["random_seed"]):
            name, seen, near = draw
            values = apply_choice(method, points, seen, near, references, evidence.predictions)[:, target]
            found = stored.filter(pc.equal(names, name))[cell["target"]].to_numpy()
            differences.append(float(np.abs(found - values).max(initial=0)) if len(found) == len(values) else None)
            draws.append(draw)
        entry["largest_difference"] = None if None in differences else max(differences)
        if draws[0][0] != method.name:
            entry["draws"] = len(draws)
        k, (_, seen, near) = entry["k"], draws[0]
        mean, std = average_labels(method, near, references, k)
        nearest, cosine = references.rank(method.similarity, seen.vectors)
        similarity = np.empty_like(cosine)
        np.put_along_axis(similarity, nearest, cosine, axis=1)  # (speakers, references)
        entry["speakers"] = [
            {
                "speaker": speaker,
                "predicted_mean": float(seen.mean[s, target]),
                "predicted_sd": float(seen.std[s, target]),
                "neighbours_label_mean": float(mean[s, target]),
                "neighbours_label_sd": float(std[s, target]),
                "neighbours": {references.speakers[r]: float(similarity[s, r]) for r in near.order[s, :k].tolist()},
            }
            for s, speaker in enumerate(evidence.predictions.speakers)
        ]
    return explained


def list_changed(code: dict[str, dict[str, str]]) -> list[str]:
    """The files of the workflow that are no longer what the tables were made with."""
    files = {item for known in code.values() for item in known.items()}
    return sorted(
        name for name, digest in files if not (WORKFLOW / name).is_file() or sha256(WORKFLOW / name) != digest
    )
