"""The report of a run: everything gathered, as one HTML file that needs no network."""

import json
from dataclasses import dataclass
from pathlib import Path

import jinja2
import vl_convert
import yaml
from markupsafe import Markup

from ser.config.finetuning import FOLDER
from ser.evaluation.cells import ORACLE
from ser.files import check_digests, read_json, write_text
from ser.report import datasets, run, speaker_map, summary
from ser.report.charts import make_plots
from ser.statistics.intervals import MIN_SPEAKERS

PAGE = Path(__file__).parent


@dataclass(frozen=True)
class Inputs:
    """Paths of what a report is made from.

    Attributes:
        tables: `ablation_table`, `contrast_table`, `speaker_table`, `speaker_summary`, `enrolment_curve`,
            `label_shift`, `label_shift_correlations`, `utterances`, `rejected`, `protocol` and `provenance`; of a run
            with groups of speakers `group_table`
        choices: choices of k and alpha by ablation
        cards: the card of each encoder
        training: the training log of each encoder that was adapted, or fine-tuned (`finetuned/{ablation}/seed-{seed}`)
        winners: what tuning found best, `.../{ablation}.json`, of each ablation that is `tuned`
        histories: training histories of all ablations and seeds
        labels: labels by split, the training split's first, then the evaluated splits'
        calibrated: calibrated predictions of all ablations, seeds and evaluated splits
        vectors: speaker vectors of one seed, of all ablations and splits
        results: the results folder, whose benchmarks are read as far as they are there
    """

    tables: dict[str, str]
    choices: dict[str, str]
    cards: dict[str, str]
    training: dict[str, str]
    winners: dict[str, str]
    histories: list[str]
    labels: dict[str, str]
    calibrated: list[str]
    vectors: list[str]
    results: str | Path

    def read_table(self, name: str) -> list[dict]:
        return datasets.read_table(self.tables[name]) if name in self.tables else []


def write_report(path: str, inputs: Inputs) -> None:
    """Write the page; an error if a table is not the one that the provenance has a digest of."""
    provenance = read_json(inputs.tables["provenance"])
    check_digests(inputs.tables.values(), provenance.get("tables", {}), inputs.tables["provenance"])
    config = provenance["config"]
    calibration = _pick_calibration(config)
    cells, shares, group_rows = map(inputs.read_table, ("ablation_table", "speaker_summary", "group_table"))
    groups = summary.describe_groups(group_rows)
    corpus = run.summarise_corpus(
        inputs.tables["utterances"], list(inputs.labels), config["corpus"]["targets"], config["corpus"]["label_range"]
    )
    drawn, measures = collect_datasets(inputs, config, shares, calibration)
    drawn |= {"labels": corpus["labels"], "per_speaker": corpus["speakers"]}
    drawn["groups"] = datasets.collect_groups(group_rows)
    choice = _list_choices(config, cells, list(inputs.choices), calibration)
    content = {
        "choice": choice,
        "least_speakers": MIN_SPEAKERS,
        "cells": datasets.collect_cells(cells),
        "datasets": {name: dataset.to_json() for name, dataset in drawn.items()},
        "plots": make_plots(config["corpus"]["label_range"], measures, run.BINS, [group["name"] for group in groups]),
    }
    page = {
        "title": Path(config["corpus"]["folder"]).name,
        "choice": choice,
        "corpus": corpus,
        "groups": groups,
        "calibration": calibration,
        "measures": measures,
        "bins": run.BINS,
        "least_speakers": MIN_SPEAKERS,
        "neighbours": speaker_map.NEIGHBOURS,
    }
    page |= _describe_run(inputs, config, cells) | _describe_scores(inputs, config, cells, shares, calibration)
    write_text(path, render(page | run.describe_code(provenance), content))


def _list_choices(config: dict, cells: list[dict], ablations: list[str], calibration: str) -> dict[str, dict]:
    """What the page's reader chooses between, and what is shown first."""
    targets, evaluated = config["corpus"]["targets"], list(dict.fromkeys(row["split"] for row in cells))
    return {
        "split": {"values": evaluated, "start": next((s for s in evaluated if s != "validation"), "validation")},
        "target": {"values": targets, "start": targets[0]},
        "ablation": {"values": ablations, "start": config["baseline"]},
        "calibration": {"values": datasets.list_calibrations(cells), "start": calibration},
    }


def _describe_run(inputs: Inputs, config: dict, cells: list[dict]) -> dict:
    """What was run on what, what it cost, and what weakens its figures."""
    encoders, rejected = run.describe_encoders(inputs.cards), run.describe_rejected(inputs.tables["rejected"])
    names = [*inputs.choices, *config["encoders"], *config.get("pseudo_labels", {}), *inputs.labels]
    names += [FOLDER, *(f"seed-{seed}" for seed in config["seeds"])]  # of encoders that were fine-tuned
    return {
        "rejected": rejected,
        "encoders": encoders,
        "encoder_keys": run.list_keys(encoders),
        "adapted": [name for name in inputs.training if not name.startswith(f"{FOLDER}/")],
        "finetuned": sorted({Path(name).parts[1] for name in inputs.training if name.startswith(f"{FOLDER}/")}),
        "tuned": {name: read_json(path) | {"of": Path(path).stem} for name, path in inputs.winners.items()},
        "cautions": summary.list_cautions(cells, encoders, config["seeds"], rejected["count"]),
        "protocol": read_json(inputs.tables["protocol"])["checked"],
        "config": config,
        "config_text": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100),
        "enrols": any(method["enrolment"] for method in config["calibration"]["methods"]),
        "costs": run.measure_costs(Path(inputs.results) / "benchmarks", names),
        "disk": run.measure_disk(inputs.results),
        "left_out": run.read_left_out(inputs.results),
    }


def _describe_scores(inputs: Inputs, config: dict, cells: list[dict], shares: list[dict], calibration: str) -> dict:
    """What the tables answer, and what they could have told."""
    margin = config["evaluation"]["margin"]
    answers = summary.answer(cells, shares, list(inputs.choices), config["baseline"], calibration, margin)
    return {
        "answers": answers,
        "differences": summary.count_differences(answers),
        "power": summary.describe_power(cells, len(config["seeds"])),
        "contrasts": summary.list_contrasts(inputs.read_table("contrast_table"), margin),
        "primary": config["evaluation"]["primary"] or config["baseline"],
        "margin": margin,
        "references": datasets.count_references(inputs.choices),
        "few_utterances": datasets.count_few_utterances(shares),
    }


def _pick_calibration(config: dict) -> str:
    """The method that stands for calibration where there is room for one; the labels' own if the config has none."""
    names = [method["name"] for method in config["calibration"]["methods"]]
    studied = config["evaluation"]["shift_calibration"]
    return studied if studied in names else next(iter(names), ORACLE)


def collect_datasets(
    inputs: Inputs, config: dict, shares: list[dict], calibration: str
) -> tuple[dict[str, datasets.Dataset], list[str]]:
    """All that is drawn, by name, and the measures of the encoders' training logs."""
    targets, label_range = config["corpus"]["targets"], config["corpus"]["label_range"]
    shifts, correlations = datasets.collect_shifts(*map(inputs.read_table, ("label_shift", "label_shift_correlations")))
    k_curve, alpha_curve = datasets.collect_choices(inputs.choices)
    enrolment, enrolment_bars = datasets.collect_enrolment(inputs.read_table("enrolment_curve"))
    curves, measures = datasets.collect_training(inputs.training)
    train_labels, *_ = inputs.labels.values()
    evaluated = dict(list(inputs.labels.items())[1:])
    densities, moved = speaker_map.collect_densities(evaluated, inputs.calibrated, calibration, targets, label_range)
    evaluation = config["evaluation"]
    policy = {key: evaluation[key] for key in ("min_utterances", "constant_labels")}
    drawn = {
        "speakers": datasets.collect_speakers(inputs.read_table("speaker_table")),
        "shares": datasets.collect_shares(shares),
        "k_curve": k_curve,
        "alpha_curve": alpha_curve,
        "enrolment": enrolment,
        "enrolment_bars": enrolment_bars,
        "uncalibrated": speaker_map.collect_uncalibrated(
            inputs.labels["validation"], inputs.calibrated, targets, policy
        ),
        "shifts": shifts,
        "correlations": correlations,
        "histories": datasets.collect_histories(inputs.histories),
        "training": curves,
        "densities": densities,
        "densities_calibrated": moved,
    }
    least = config["calibration"]["min_reference_utterances"]
    bootstrap = {"draws": evaluation["bootstrap_draws"], "seed": evaluation["bootstrap_seed"]}
    vectors = speaker_map.collect_vectors(train_labels, evaluated, inputs.vectors, targets, least, bootstrap)
    return drawn | vectors, measures


def render(page: dict, content: dict) -> str:
    """The page's text: values escaped by the template, data as JSON that cannot end its script element."""
    loader = jinja2.FileSystemLoader(PAGE)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "number": summary.format_number,
        "interval": summary.format_interval,
        "size": format_size,
        "time": format_time,
    }
    parts = {
        "css": Markup((PAGE / "page.css").read_text(encoding="utf-8")),
        "script": Markup((PAGE / "page.js").read_text(encoding="utf-8")),
        "licences": (PAGE / "page.licences.txt").read_text(encoding="utf-8"),
        "vega": Markup(vl_convert.javascript_bundle()),
        "data": Markup(dump_script(content)),
    }
    return environment.get_template("page.html").render(page | parts)


def dump_script(value) -> str:
    """JSON for a script element: no character of it can be taken for markup."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def format_size(value: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000


def format_time(seconds: float) -> str:
    """A duration for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.1f} min" if minutes < 60 else f"{hours:.1f} h"
