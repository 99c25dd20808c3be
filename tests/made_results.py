"""A results folder as the stages before evaluation leave it, made up: labels, predictions, vectors, summaries.

The shift is planted: similar vectors go with similar label means and spreads, and predictions know neither. Utterances
differ within a speaker by a score that predictions see with noise.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from ser.config.ablation import Ablation
from ser.config.calibration_methods import read_methods
from ser.evaluation.calibration import calibrate_split, choose_calibration
from ser.evaluation.groups import score_groups
from ser.evaluation.label_shift import study_label_shift
from ser.evaluation.protocol import check_protocol
from ser.evaluation.tables import Design, score_runs
from ser.files import write_json, write_text
from ser.formats.csv_files import format_rows
from ser.formats.parquet import read_parquet, write_parquet
from ser.statistics.moments import Policy

TARGETS = ["valence", "arousal"]
METHODS = [
    {"name": "mu", "shift": "mu"},
    {"name": "sigma", "shift": "sigma"},
    {"name": "mu_sigma"},
    {"name": "pldc_shrunk", "shrinkage": True},
    {"name": "mu_sigma_weighted", "weighting": "similarity"},
    {"name": "mu_sigma_hubert", "similarity": "encoder"},
    {"name": "mu_sigma_mfcc", "similarity": "mfcc"},
    {"name": "enrol_1", "enrolment": 1},
    {"name": "enrol_5", "enrolment": 5},
    {"name": "enrol_10", "enrolment": 10},
    {"name": "random_k", "neighbours": "random"},
    {"name": "global", "neighbours": "all"},
    {"name": "mu_sigma_pooled", "statistics": "pooled"},
    {"name": "mu_sigma_gated", "gate": True},
    {"name": "labels_5", "enrolment": 5, "enrolment_labels": True},
]
DRAWS = 3  # of which utterances are enrolled
SPEAKERS = {"train": 60, "validation": 20, "test": 24}
WIDTH = 12
POLICY = {"min_utterances": 2, "constant_labels": "omit"}
BOOTSTRAP = {"draws": 500, "seed": 1}


def enrolment_order(utterance_ids: list[str], draw: int) -> list[str]:
    """A speaker's utterances in the order in which a draw enrols them, by the formula in the documents."""
    return sorted(utterance_ids, key=lambda name: hashlib.sha256(f"{draw} {name}".encode()).hexdigest())


class MadeResults:
    """The folder `root/results`, with its evaluation as the rules run it."""

    def __init__(
        self,
        root: Path,
        ablations=("baseline", "other"),
        seeds=(1, 2),
        targets=TARGETS,
        speakers=SPEAKERS,
        utterances=15,
        methods=METHODS,
    ):
        self.root, self.seeds, self.targets, self.methods = Path(root) / "results", list(seeds), list(targets), methods
        self.ablations = {
            name: Ablation(encoder="demo", speaker="none" if name == "baseline" else "mfcc", layer="weighted")
            for name in ablations
        }
        self.splits = list(speakers)
        self.evaluated = [split for split in speakers if split != "train"]
        rng = np.random.default_rng(7)
        mixing = rng.normal(size=(3, WIDTH))
        for split, count in speakers.items():
            self._make_split(split, count, utterances, mixing, rng)
        write_json(self.root / "encoders/demo/card.json", {"weights": "random-init"})

    def _make_split(self, split: str, count: int, utterances: int, mixing: np.ndarray, rng) -> None:
        names = [f"{split} {number:03d}" for number in range(count)]
        kind = rng.normal(size=(count, 3))  # what similar speakers share
        speaker = np.repeat(np.arange(count), utterances)
        ids = [f"{names[s]}/{i:04d}" for i, s in enumerate(speaker)]
        speaker_ids = [names[s] for s in speaker]
        mean = 4 + 0.8 * kind[:, :1] + 0.1 * rng.normal(size=(count, len(self.targets)))
        spread = 0.6 * np.exp(0.3 * kind[:, 1:2]) * np.ones((1, len(self.targets)))
        score = rng.normal(size=(len(ids), len(self.targets)))
        labels = mean[speaker] + spread[speaker] * score
        self._write("labels", split, ids, speaker_ids, labels)
        if split != "train":
            self.cut_labels(split)
        for ablation in self.ablations:
            for seed in self.seeds:
                noise = np.random.default_rng([seed, len(ablation), count])
                values = (
                    4 + 0.4 * (score + noise.normal(size=score.shape)) + 0.3 * noise.normal(size=mean.shape)[speaker]
                )
                where = f"{ablation}/seed-{seed}/{split}"
                self._write("predictions", where, ids, speaker_ids, values.astype(np.float32))
                vectors = kind @ mixing + 0.2 * noise.normal(size=(count, WIDTH)) + 5
                self._write_vectors(where, names, vectors, ids, speaker, noise)
        vectors = (kind @ mixing + 0.5 * rng.normal(size=(count, WIDTH)) + 5).astype(np.float32)
        write_json(
            self.root / f"speakers/{split}/shard-000.json",
            {name: {"mfcc": v.tolist(), "n_utterances": utterances} for name, v in zip(names, vectors, strict=True)},
        )
        columns = {
            "speaker_id": pa.array(names, pa.string()),
            "n_utterances": pa.array([utterances] * count, pa.int64()),
            "mean": pa.array(list(vectors), pa.list_(pa.float32())),
            "variance": pa.array(list(np.exp(0.1 * vectors)), pa.list_(pa.float32())),
        }
        write_parquet(self.root / f"encoder_summaries/demo/{split}.parquet", pa.table(columns))

    def _write(self, kind: str, where: str, ids, speaker_ids, values) -> None:
        columns = {"utterance_id": pa.array(ids, pa.string()), "speaker_id": pa.array(speaker_ids, pa.string())}
        columns |= {target: values[:, t] for t, target in enumerate(self.targets)}
        write_parquet(self.root / kind / f"{where}.parquet", pa.table(columns))

    def _write_vectors(self, where, names, vectors, ids, speaker, rng) -> None:
        kind = pa.list_(pa.float32())
        columns = {"speaker_id": pa.array(names, pa.string()), "vector": pa.array(list(vectors), kind)}
        write_parquet(self.root / "speaker_vectors" / f"{where}.parquet", pa.table(columns))
        values = vectors[speaker] + 0.3 * rng.normal(size=(len(ids), WIDTH))
        columns = {
            "utterance_id": pa.array(ids, pa.string()),
            "speaker_id": pa.array([names[s] for s in speaker], pa.string()),
            "vector": pa.array(list(values.astype(np.float16)), pa.list_(pa.float16())),
        }
        write_parquet(self.root / "enrolment_vectors" / f"{where}.parquet", pa.table(columns))

    def cut_labels(self, split: str) -> None:
        """The labels that labelled enrolment may see, as the index cuts them out of the sheet."""
        most = max([m["enrolment"] for m in self.methods if m.get("enrolment_labels")], default=0)
        by_speaker = {}
        for row in read_parquet(self.labels(split)).to_pylist():
            by_speaker.setdefault(row["speaker_id"], {})[row["utterance_id"]] = row
        rows = [
            (draw, *utterances[name].values())
            for draw in range(DRAWS)
            for utterances in by_speaker.values()
            for name in enrolment_order(list(utterances), draw)[:most]
        ]
        path = Path(self.enrolment_labels(split))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(format_rows(("draw", "utterance_id", "speaker_id", *self.targets), rows), encoding="utf-8")

    def enrolment_labels(self, split: str) -> str:
        return str(self.root / f"manifests/{split}/enrolment_labels.csv")

    @property
    def labelled(self) -> bool:
        return any(method.get("enrolment_labels") for method in self.methods)

    def labels(self, split: str) -> str:
        return str(self.root / f"labels/{split}.parquet")

    def seed_files(self, kind: str, ablation: str, split: str) -> list[str]:
        return [str(self.root / f"{kind}/{ablation}/seed-{seed}/{split}.parquet") for seed in self.seeds]

    def choices(self, ablation: str) -> str:
        return str(self.root / f"calibration/{ablation}/choices.json")

    def calibrated(self) -> list[str]:
        return [f for a in self.ablations for s in self.evaluated for f in self.seed_files("calibrated", a, s)]

    def files(self, ablation: str, split: str) -> dict[str, list[str]]:
        return {
            "predictions": self.seed_files("predictions", ablation, split),
            "fused": self.seed_files("speaker_vectors", ablation, split),
            "enrolment": self.seed_files("enrolment_vectors", ablation, split),
            "enrolment_labels": [self.enrolment_labels(split)] if self.labelled and split != "train" else [],
            "encoder": [str(self.root / f"encoder_summaries/demo/{split}.parquet")],
            "mfcc": [str(self.root / f"speakers/{split}/shard-000.json")],
        }

    def choose(self, ablation: str, **changes) -> None:
        given = {
            "train_labels": self.labels("train"),
            "validation_labels": self.labels("validation"),
            "train": self.files(ablation, "train"),
            "validation": self.files(ablation, "validation"),
            "seeds": self.seeds,
            "targets": self.targets,
            "methods": self.methods,
            "k": [1, 2, 3, 5, 10, 20, 50, 100],
            "alpha": [0, 0.25, 0.5, 0.75, 1],
            "gate": [0.25, 0.5, 0.75, 1],
            "enrolment_draws": DRAWS,
            "min_reference_utterances": 1,
            "policy": POLICY,
            "path": self.choices(ablation),
        }
        choose_calibration(**given | changes)

    def calibrate(self, ablation: str, split: str, **changes) -> None:
        given = {
            "train_labels": self.labels("train"),
            "choices": self.choices(ablation),
            "train": self.files(ablation, "train"),
            "split": self.files(ablation, split),
            "seeds": self.seeds,
            "targets": self.targets,
            "methods": self.methods,
            "enrolment_draws": DRAWS,
            "min_reference_utterances": 1,
            "random_draws": 10,
            "random_seed": 1,
            "paths": self.seed_files("calibrated", ablation, split),
        }
        calibrate_split(**given | changes)

    def check(self, **changes) -> None:
        given = {
            "labels": {split: self.labels(split) for split in self.splits},
            "choices": {ablation: self.choices(ablation) for ablation in self.ablations},
            "calibrated": self.calibrated(),
            "methods": self.methods,
            "targets": self.targets,
            "policy": POLICY,
            "path": str(self.root / "protocol.json"),
            "enrolment_labels": {s: self.enrolment_labels(s) for s in self.evaluated} if self.labelled else {},
        }
        check_protocol(**given | changes)

    def score(self) -> None:
        design = Design(
            ablations=self.ablations,
            hearing=[],
            methods=read_methods(self.methods),
            targets=self.targets,
            baseline="baseline",
            studied="mu_sigma",
            primary="baseline",
            policy=Policy(**POLICY),
            trained_on={"demo": "made-up labels"},
        )
        tables = ("contrast_table", "speaker_table", "speaker_summary", "enrolment_curve")
        score_runs(
            design,
            labels={split: self.labels(split) for split in self.evaluated},
            train_labels=self.labels("train"),
            calibrated=self.calibrated(),
            choices={ablation: self.choices(ablation) for ablation in self.ablations},
            cards={"demo": str(self.root / "encoders/demo/card.json")},
            paths={name: str(self.root / f"{name}.csv") for name in tables}
            | {"table": str(self.root / "ablation_table.csv")},
        )

    def score_groups(self, groups: dict[str, Callable[[int], str]], **changes) -> None:
        """The group table: of each column of groups the value of a speaker by its number in the split."""
        files = {split: self.root / f"manifests/{split}/groups.csv" for split in self.evaluated}
        for split, file in files.items():
            speakers = dict.fromkeys(read_parquet(self.labels(split))["speaker_id"].to_pylist())
            rows = [(name, *(value(n) for value in groups.values())) for n, name in enumerate(speakers)]
            write_text(file, format_rows(["speaker_id", *groups], rows))
        given = {
            "groups": {split: str(file) for split, file in files.items()},
            "labels": {split: self.labels(split) for split in self.evaluated},
            "train_labels": self.labels("train"),
            "calibrated": self.calibrated(),
            "ablations": list(self.ablations),
            "methods": self.methods,
            "targets": self.targets,
            "baseline": "baseline",
            "policy": POLICY,
            "path": str(self.root / "group_table.csv"),
        }
        score_groups(**given | changes)

    def evaluate(self) -> None:
        """All stages of evaluation, in order."""
        for ablation in self.ablations:
            self.choose(ablation)
            for split in self.evaluated:
                self.calibrate(ablation, split)
        self.check()
        self.score()

    def study(self, **changes) -> None:
        tests = [split for split in self.evaluated if split != "validation"]
        summaries = {split: str(self.root / f"encoder_summaries/demo/{split}.parquet") for split in self.splits}
        given = {
            "speaker_table": str(self.root / "speaker_table.csv"),
            "train_labels": self.labels("train"),
            "labels": {split: self.labels(split) for split in tests},
            "train_features": {"demo": summaries["train"]},
            "features": {("demo", split): summaries[split] for split in tests},
            "ablations": dict.fromkeys(self.ablations, "demo"),
            "targets": self.targets,
            "baseline": "baseline",
            "calibration": "mu_sigma",
            "bootstrap": BOOTSTRAP,
            "shifts": str(self.root / "label_shift.csv"),
            "correlations": str(self.root / "label_shift_correlations.csv"),
            "plot": str(self.root / "label_shift.svg"),
        }
        study_label_shift(**given | changes)
