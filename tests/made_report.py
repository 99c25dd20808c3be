"""What the report reads beside the evaluation of `made_results`, made up, and the report of such a folder."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
from made_results import BOOTSTRAP, DRAWS, POLICY, MadeResults

from ser.config.calibration_methods import Method
from ser.corpus.metadata import REJECTED
from ser.files import write_json, write_text
from ser.formats.parquet import read_parquet, write_parquet
from ser.report.page import Inputs, write_report

GROUPS = {"kind": lambda number: "most" if number < 6 else "<b>few</b>"}  # 6 and 2 of the split test
COSTS = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
TABLES = (
    "ablation_table",
    "contrast_table",
    "speaker_table",
    "speaker_summary",
    "enrolment_curve",
    "label_shift",
    "label_shift_correlations",
)


def complete(made: MadeResults, rejected: int) -> None:
    """Add metadata, histories, benchmarks and provenance; the first utterances of each split are set aside."""
    rows = []
    for split in made.splits:
        labels = read_parquet(made.labels(split)).to_pylist()
        for number, row in enumerate(labels):
            facts = {"duration_s": 2.5, "status": "ok", "reason": ""}
            if number < rejected:
                facts = {"duration_s": None, "status": "rejected", "reason": "silent: -90 dB"}
            rows.append(row | facts | {"split": split, "path": f"audio/{row['utterance_id']}"})
    write_parquet(made.root / "metadata/utterances.parquet", pa.Table.from_pylist(rows))
    lines = [",".join(row[key] for key in REJECTED) for row in rows if row["status"] == "rejected"]
    write_text(made.root / "metadata/rejected.csv", "\n".join([",".join(REJECTED), *lines]) + "\n")
    rng = np.random.default_rng(3)
    for ablation in made.ablations:
        for seed in made.seeds:
            lines = [
                f"{epoch},{target},{1 / epoch + 0.1 * rng.random():.6f},{0.5 - 0.4 / epoch:.6f},{int(epoch < 9)}"
                for epoch in range(1, 13)
                for target in made.targets
            ]
            text = "\n".join(["epoch,target,loss,validation_ccc,best", *lines]) + "\n"
            write_text(made.root / f"models/{ablation}/seed-{seed}/history.csv", text)
        path = made.root / f"benchmarks/train_ablation/{ablation}.tsv"
        write_text(path, COSTS + "10.5\t0:00:10\t100.0\t1\t1\t1\t0.5\t2.0\t50\t8.0\n")
    write_text(made.root / "benchmarks/score/score.tsv", COSTS + "0.4\t0:00:00\t-\t-\t-\t-\t-\t-\t0\t0\n")
    lines = [f"{step},train,{5 - step / 9:.4f},0.5" for step in range(9)] + ["8,validation,4.5,0.4"]
    write_text(made.root / "encoders/demo/training.csv", "\n".join(["step,split,loss,accuracy", *lines]) + "\n")
    write_json(made.root / "provenance.json", describe_reported(made))


def describe_reported(made: MadeResults) -> dict:
    """A provenance of these results, with a config that has what the report reads of it."""
    config = {
        "corpus": {"folder": "corpora/made", "targets": made.targets, "label_range": [1, 7]},
        "encoders": {"demo": {"base": "demo/encoder"}},
        "baseline": "baseline",
        "seeds": made.seeds,
        "calibration": {
            "methods": [vars(Method(**method)) for method in made.methods],
            "min_reference_utterances": 1,
            "enrolment_draws": DRAWS,
        },
        "evaluation": POLICY
        | {"margin": 0.05, "primary": ""}
        | {f"bootstrap_{name}": value for name, value in BOOTSTRAP.items()}
        | {"shift_calibration": "mu_sigma"},
    }
    git = {"commit": "1234567890abcdef", "dirty": False}
    return {"config": config, "packages": {"numpy": "2.0"}, "python": "3.11.0", "git": git}


def report(made: MadeResults, path: Path, **changes) -> str:
    """Write the report of a completed folder, as the rule does, and return its text."""
    root = made.root
    tables = {name: str(root / f"{name}.csv") for name in TABLES}
    tables |= {"utterances": str(root / "metadata/utterances.parquet"), "rejected": str(root / "metadata/rejected.csv")}
    tables |= {name: str(root / f"{name}.json") for name in ("protocol", "provenance")}
    if (root / "group_table.csv").is_file():
        tables["group_table"] = str(root / "group_table.csv")
    given = {
        "tables": tables,
        "choices": {ablation: made.choices(ablation) for ablation in made.ablations},
        "cards": {"demo": str(root / "encoders/demo/card.json")},
        "training": {"demo": str(root / "encoders/demo/training.csv")},
        "winners": {},
        "histories": [str(root / f"models/{a}/seed-{s}/history.csv") for a in made.ablations for s in made.seeds],
        "labels": {split: made.labels(split) for split in made.splits},
        "calibrated": made.calibrated(),
        "vectors": [made.seed_files("speaker_vectors", a, split)[0] for a in made.ablations for split in made.splits],
        "results": root,
    }
    write_report(str(path), Inputs(**given | changes))
    return path.read_text(encoding="utf-8")


def read_content(page):
    """What the page's plots and table are made from."""
    return json.loads(re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.S)[1])


def make_study(
    folder: Path, rejected: int = 1, withheld: tuple[str, ...] = (), groups: dict | None = None, **options
) -> MadeResults:
    """Made results with these options of `MadeResults`, with all that the report reads; some splits have no labels."""
    made = MadeResults(folder, **options)
    for split in withheld:
        table = read_parquet(made.labels(split))
        for number, target in enumerate(made.targets, start=2):
            table = table.set_column(number, target, pa.nulls(len(table), pa.float64()))
        write_parquet(made.labels(split), table)
        made.cut_labels(split)
    made.evaluate()
    if groups:
        made.score_groups(groups)
    made.study()
    complete(made, rejected)
    return made


def make_grouped_study(folder: Path) -> MadeResults:
    """A study with all that a report shows: two test splits, the smaller without intervals, and groups of speakers."""
    speakers = {"train": 20, "validation": 6, "test": 8, "second": 5}
    return make_study(folder, speakers=speakers, groups=GROUPS)
