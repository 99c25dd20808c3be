"""Two runs of a study: which cells of the ablation table changed, by how much, and what can account for it."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ser.config.speaker_vectors import resolve_speaker_vectors
from ser.files import DataError, read_json
from ser.formats import manifest
from ser.formats.csv_files import read_rows
from ser.tracing.explanation import KEY
from ser.tracing.provenance import TABLE, read_provenance
from ser.tracing.study import check_names

METRICS = ("o_ccc", "a_ccc", "delta_o_ccc", "delta_a_ccc")
# What says where something is, how fast it is made or what is refused: if it matters, the content differs too.
NO_FIGURE = {
    "corpus": {
        "folder",
        "layout",
        "audio",
        "sheet",
        "tables",
        "columns",
        "groups",
        "unknown_speakers",
        "test_splits",
        "label_range",
    },
    "encoders": {"base", "revision", "threads"},
    "evaluation": {"shift_calibration"},
}
PARTS = {"provenance", "audio", "labels", "encoders", "table"}
VECTORS = "vectors"  # a part that summaries of earlier versions lack

Ablations = list[tuple[str, dict]]  # of both runs
Items = dict[str, tuple[str | None, str | None]]  # what differs -> its value in the first and the second run


@dataclass(frozen=True)
class Change:
    """An input that differs between two runs, and the cells that it can reach: None is any.

    `everywhere` are the ablations that a split's audio reaches in the other splits too. With `either` it reaches the
    cells of its ablations and those of its calibrations, else those of both.
    """

    kind: str  # audio, labels, encoder, vectors, config, code, packages
    where: str
    items: Items
    ablations: frozenset[str] | None = None
    calibrations: frozenset[str] | None = None
    split: str | None = None
    everywhere: frozenset[str] = frozenset()
    either: bool = False

    def reaches(self, cell: dict[str, str], baselines: set[str]) -> bool:
        """Whether it can account for a cell. The baseline is in the deltas of uncalibrated rows."""
        involved = {cell["ablation"]} | (baselines if cell["calibration"] == "none" else set())
        by_ablation = self.ablations is None or bool(self.ablations & involved)
        by_calibration = self.calibrations is None or cell["calibration"] in self.calibrations
        reached = by_ablation or by_calibration if self.either else by_ablation and by_calibration
        return reached and (self.split in (None, cell["split"]) or bool(self.everywhere & involved))


@dataclass(frozen=True)
class Difference:
    """A cell whose figures differ; None where a run does not have the cell or the figure.

    `share` is the change of O-CCC or A-CCC, whichever is larger, over half the width of the first run's interval;
    None without an interval. `causes` are the numbers of the changes that can account for it.
    """

    cell: dict[str, str]
    figures: dict[str, tuple[float | None, float | None]]
    share: float | None
    causes: list[int]


def summarise(results: str | Path) -> dict:
    """What a comparison needs of a results folder; kept as JSON it outlives the folder."""
    results = Path(results)
    made = read_provenance(results)
    index = read_json(results / "manifests/index.json")
    encoders = sorted({ablation["encoder"] for ablation in made["ablations"].values()})
    return {
        "provenance": made,
        "audio": {split: dict(_list_audio(results, split, found)) for split, found in index["shards"].items()},
        "labels": {split: dict(_list_labels(results, split)) for split in index["shards"]},
        "encoders": {name: read_json(results / f"encoders/{name}/card.json")["weights_sha256"] for name in encoders},
        VECTORS: dict(_list_vectors(results, made["config"], index["shards"])),
        "table": read_rows(results / TABLE),
    }


def read_summary(path: str | Path) -> dict:
    """The summary of a results folder, or one that was saved."""
    if Path(path).is_dir():
        return summarise(path)
    if not Path(path).is_file():
        raise DataError(f"{path}: is neither a results folder nor a saved summary")
    try:
        summary = read_json(path)
    except DataError:
        summary = None
    if not isinstance(summary, dict) or set(summary) - {VECTORS} != PARTS or not _is_whole(summary):
        raise DataError(f"{path}: is no summary; make one of a results folder with --save")
    return summary


def _is_whole(summary: dict) -> bool:
    """Whether the parts of a summary are what `summarise` makes, as far as a comparison relies on it."""
    made, cells = summary["provenance"], summary["table"]
    try:
        check_names(made, Path())
        list(_flatten(made))
        fit_python = isinstance(made["python"], str)
        settings = [*made["ablations"].values(), *made["config"]["encoders"].values(), *made["code"].values()]
        settings += [made["packages"], made["config"]["calibration"]]
        texts = [summary["encoders"], *summary["audio"].values(), *summary["labels"].values(), *cells]
        texts += summary.get(VECTORS, {}).values()
        fit = fit_python and isinstance(cells, list) and all(isinstance(each, dict) for each in [*settings, *texts])
        fit = fit and all(isinstance(value, str) for each in texts for value in each.values())
        fit = fit and all(isinstance(each.get("splits", []), list) for each in made["config"]["encoders"].values())
        for row in cells:
            fit = fit and set(KEY) <= set(row)
            for name in METRICS:
                _ = [_read_number(row, key) for key in (name, f"{name}_low", f"{name}_high")]
    except (DataError, KeyError, TypeError, ValueError, AttributeError):
        return False
    return fit


def _list_audio(results: Path, split: str, shards: Iterable[str]) -> Iterator[tuple[str, str]]:
    for shard in sorted(shards):
        rows = manifest.read(results / f"manifests/{split}/shard-{shard}.csv")
        yield from ((row.utterance_id, row.sha256) for row in rows)


def _list_labels(results: Path, split: str) -> Iterator[tuple[str, str]]:
    for utterance, *values in (row.values() for row in read_rows(results / f"manifests/{split}/labels.csv")):
        yield utterance, ", ".join(values)  # speaker and labels


def _list_vectors(results: Path, config: dict, splits: dict) -> Iterator[tuple[str, dict[str, str]]]:
    """Of each speaker model the digests of its weights, of vectors from a file one for each speaker, split by split."""
    for name, vectors in resolve_speaker_vectors(config).items():
        card = results / f"speaker_models/{name}/card.json"
        if vectors.kind == "model" and card.is_file():  # else nothing uses it
            made = read_json(card)
            yield name, {"model": made["weights_sha256"], "head": made["xvector_sha256"]}
        for split, shards in splits.items() if vectors.kind == "file" else ():
            paths = (results / path for path in vectors.list_files(split=split, shard=sorted(shards)))
            known = [item for path in paths if path.is_file() for item in read_json(path).items()]
            if known:
                yield (
                    f"{name} {split}",
                    {speaker: hashlib.sha256(json.dumps(vector).encode()).hexdigest() for speaker, vector in known},
                )


def compare(first: dict, second: dict) -> tuple[list[Change], list[Difference]]:
    """The inputs that differ between two summaries, and the cells: the largest share of an interval first."""
    changes = list(list_changes(first, second))
    baselines = {run["provenance"]["config"]["baseline"] for run in (first, second)}
    before, after = ({tuple(row[name] for name in KEY): row for row in run["table"]} for run in (first, second))
    differences = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key, {}), after.get(key, {})
        figures = {name: (_read_number(old, name), _read_number(new, name)) for name in METRICS}
        if any(one != other for one, other in figures.values()):
            cell = dict(zip(KEY, key, strict=True))
            causes = [number for number, change in enumerate(changes) if change.reaches(cell, baselines)]
            differences.append(Difference(cell, figures, find_share(figures, old), causes))
    return changes, sorted(differences, key=lambda each: -1 if each.share is None else each.share, reverse=True)


def find_share(figures: dict, old: dict[str, str]) -> float | None:
    """The larger change of O-CCC and A-CCC over half the width of its interval in the first run."""
    shares = []
    for name in ("o_ccc", "a_ccc"):
        low, high = _read_number(old, f"{name}_low"), _read_number(old, f"{name}_high")
        if None not in (low, high, *figures[name]) and high > low:
            shares.append(abs(figures[name][1] - figures[name][0]) / ((high - low) / 2))
    return max(shares, default=None)


def _read_number(row: dict[str, str], name: str) -> float | None:
    return float(row[name]) if row.get(name) else None


def list_changes(first: dict, second: dict) -> Iterator[Change]:
    """The inputs that differ between two summaries, what is of one kind and reach together."""
    made = [run["provenance"] for run in (first, second)]
    ablations = [item for each in made for item in each["ablations"].items()]
    for kind in ("audio", "labels"):
        for split in sorted({*first[kind], *second[kind]}):
            if items := _differ(first[kind].get(split, {}), second[kind].get(split, {})):
                trains = split in ("train", "validation")
                heard = _find_hearing(split, made, ablations) if kind == "audio" else frozenset()
                yield Change(kind, split, items, split=None if trains else split, everywhere=heard)
    for name, values in _differ(first["encoders"], second["encoders"]).items():
        yield Change("encoder", name, {"weights": values}, ablations=_select(ablations, "encoder", name))
    if VECTORS in first and VECTORS in second:
        yield from _list_vector_changes(first[VECTORS], second[VECTORS], made, ablations)
    yield from _list_config_changes(made, ablations)
    code = [{name: digest for files in each["code"].values() for name, digest in files.items()} for each in made]
    versions = [each["packages"] | {"Python": each["python"]} for each in made]
    for kind, sides in (("code", code), ("packages", versions)):
        if items := _differ(*sides):
            yield Change(kind, "", items)


def _differ(first: dict, second: dict) -> Items:
    """The keys whose values differ, with both values as text; None where there is none."""
    return {
        name: tuple(str(side[name]) if name in side else None for side in (first, second))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    }


def _select(ablations: Ablations, setting: str, value: str) -> frozenset[str]:
    return frozenset(name for name, settings in ablations if settings[setting] == value)


def _find_hearing(split: str, made: list[dict], ablations: Ablations) -> frozenset[str]:
    """The ablations that hear a test split in training: weighted for its speakers, or by an encoder adapted on it."""
    hearing = _select_adapted(made, ablations, lambda encoder: split in encoder["splits"])
    return _select(ablations, "weighting", "similar_speakers") | hearing


def _select_adapted(made: list[dict], ablations: Ablations, which: Callable[[dict], bool]) -> frozenset[str]:
    """The ablations of encoders that were trained further on the corpus, of those that `which` is true for."""
    encoders = [item for each in made for item in each["config"]["encoders"].items()]
    adapted = {name for name, options in encoders if options.get("adaptation", "none") != "none" and which(options)}
    return frozenset().union(*(_select(ablations, "encoder", name) for name in adapted))


def _list_vector_changes(first: dict, second: dict, made: list[dict], ablations: Ablations) -> Iterator[Change]:
    """Models and files that speaker vectors come from: they reach what knows speakers by them, or permuted."""
    configs = [each["config"] for each in made]
    for where in sorted({*first, *second}):
        name, _, split = where.partition(" ")
        sections = [config.get("speaker_vectors", {}) for config in configs]
        names = {name} | {n for each in sections for n, options in each.items() if options.get("permute") == name}
        weighted = {n for n, a in ablations if a["weighting"] != "none" and a.get("similarity") in names}
        methods = [method for config in configs for method in config["calibration"]["methods"]]
        if items := _differ(first.get(where, {}), second.get(where, {})):
            yield Change(
                VECTORS,
                where,
                items,
                ablations=frozenset(weighted | {n for n, a in ablations if a.get("speaker") in names}),
                calibrations=frozenset(m["name"] for m in methods if m.get("similarity") in names),
                split=None if split in ("", "train", "validation") else split,
                everywhere=frozenset(weighted),
                either=True,
            )


def _list_config_changes(made: list[dict], ablations: Ablations) -> Iterator[Change]:
    """The values of the config that differ, each a change; ablations are compared with all that they inherit."""
    for path, values in _differ(*(dict(_flatten(each)) for each in made)).items():
        section, *rest = path
        if rest and rest[-1] in NO_FIGURE.get(section, ()):
            continue
        reach = {}
        if section == "ablations":
            reach = {"ablations": frozenset(rest[:1])}
        elif section == "encoders":
            reach = {"ablations": _select(ablations, "encoder", rest[0])}
        elif section in ("pretraining", "pseudo_labels"):
            reach = {"ablations": _select_adapted(made, ablations, lambda encoder: True)}
        elif section == "calibration":
            reach = {"calibrations": frozenset(rest[1:2]) if rest[0] == "methods" else _select_methods(made, rest[0])}
        yield Change("config", ".".join(path), {"value": values}, **reach)


def _select_methods(made: list[dict], key: str) -> frozenset[str]:
    """The calibration methods that an option of all of them decides."""
    chosen = {
        "alpha": lambda method: method.get("shrinkage") or method.get("enrolment_labels"),
        "gate": lambda method: method.get("gate"),
        "enrolment_draws": lambda method: method.get("enrolment"),
        "random_draws": lambda method: method.get("neighbours") == "random",
        "random_seed": lambda method: method.get("neighbours") == "random",
    }.get(key, lambda method: True)
    return frozenset(m["name"] for each in made for m in each["config"]["calibration"]["methods"] if chosen(m))


def _flatten(made: dict) -> Iterator[tuple[tuple[str, ...], object]]:
    """A config as `(path, value)`: what has a name is found by it, whatever its place in a list."""
    config = {name: value for name, value in made["config"].items() if name not in ("heads", "training", "finetuning")}
    methods = {method["name"]: method for method in config["calibration"]["methods"]}
    config |= {"ablations": made["ablations"], "calibration": config["calibration"] | {"methods": methods}}

    def walk(value, path):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, (*path, key))
        else:
            yield path, value

    return walk(config, ())
