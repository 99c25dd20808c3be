"""A finished study: what its results folder says of itself, and the files that its figures come from."""

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

from ser.config.ablation import Ablation
from ser.config.calibration_methods import Method, count_labelled, read_methods
from ser.config.encoders import resolve_encoders
from ser.config.finetuning import name_encoder
from ser.config.speaker_vectors import MADE_FROM_AUDIO, resolve_speaker_vectors
from ser.files import DataError, read_json
from ser.tracing.provenance import NAME, read_provenance

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_names(made: dict, path: Path) -> None:
    """Raise DataError for a provenance whose names are none that a config can have: they are parts of paths."""
    try:
        config = made["config"]
        names = [*made["ablations"], *config["encoders"], *config["corpus"].get("targets", []), config["baseline"]]
        names += [method["name"] for method in config["calibration"]["methods"]]
        names += [settings["encoder"] for settings in made["ablations"].values()]
        for name, settings in config.get("speaker_vectors", {}).items():
            names += [name, *(settings[key] for key in ("encoder", "permute") if settings[key] is not None)]
        fit = all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
        fit = fit and all(type(seed) is int and seed >= 0 for seed in config["seeds"])
    except (KeyError, TypeError, AttributeError):
        fit = False
    if not fit:
        raise DataError(f"{path}: has names or seeds that no config can have; it is damaged, or no run wrote it")


class Study:
    """A results folder: what it says of itself, and where its files are."""

    def __init__(self, results: str | Path):
        self.results = Path(results)
        self.made = read_provenance(self.results)
        check_names(self.made, self.results / NAME)
        self.config = self.made["config"]
        self.ablations = {name: Ablation.read(values) for name, values in self.made["ablations"].items()}
        self.seeds, self.targets = self.config["seeds"], self.config["corpus"]["targets"]
        self.methods = read_methods(self.config["calibration"]["methods"])
        self.speaker_vectors = resolve_speaker_vectors(self.config)

    @cached_property
    def index(self) -> dict:
        return read_json(self.results / "manifests/index.json")

    def encoder(self, name: str) -> dict:
        """An encoder's options; of one that was trained further on this corpus with those of its pre-training."""
        options = self.config["encoders"][name]
        return options if options["adaptation"] == "none" else resolve_encoders(self.config)[name]

    def tuned_encoders(self, ablation: str) -> list[str]:
        """The encoders of an ablation's seeds, where they were fine-tuned."""
        return [name_encoder(ablation, seed) for seed in self.seeds] if self.ablations[ablation].finetune else []

    def labels(self, split: str) -> Path:
        return self.results / f"labels/{split}.parquet"

    def enrolment_labels(self, split: str) -> Path:
        """The labels of utterances that speakers are enrolled with, where a method does so with labels."""
        return self.results / f"manifests/{split}/enrolment_labels.csv"

    def winner(self, ablation: str) -> Path:
        """What tuning found best, for an ablation that is `tuned`."""
        return self.results / f"tuning/{self.ablations[ablation].tuned['ablation']}.json"

    def shards(self, kind: str, split: str, suffix: str) -> list[Path]:
        return [self.results / kind / split / f"shard-{s}.{suffix}" for s in sorted(self.index["shards"][split])]

    def seed_files(self, kind: str, ablation: str, split: str) -> list[Path]:
        return [self.results / kind / ablation / f"seed-{seed}/{split}.parquet" for seed in self.seeds]

    def evidence_files(self, ablation: str, split: str) -> dict[str, list[Path]]:
        """What calibration saw of a split, as `evidence.read_evidence` takes it."""
        compared = dict.fromkeys(["fused", *(method.similarity for method in self.methods)])
        enrols = any(method.enrolment for method in self.methods)
        labelled = split != "train" and count_labelled(self.methods)
        return {
            "predictions": self.seed_files("predictions", ablation, split),
            "enrolment": self.seed_files("enrolment_vectors", ablation, split) if enrols else [],
            "enrolment_labels": [self.enrolment_labels(split)] if labelled else [],
            **{name: self.vectors(name, ablation, split) for name in compared},
        }

    def vectors(self, name: str, ablation: str, split: str) -> list[Path]:
        """The files of speaker vectors, some of which an ablation has of its own."""
        names = {"ablation": ablation, "encoder": self.ablations[ablation].encoder, "split": split}
        lists = {"seed": self.seeds, "shard": sorted(self.index["shards"][split])}
        return [self.results / path for path in self.speaker_vectors[name].list_files(**names, **lists)]


def list_files(study: Study, owner: str, method: Method | None, split: str) -> dict[str, list[Path]]:
    """The files on the way from the corpus to a cell, by kind, in the order in which they are made."""
    settings, splits = study.ablations[owner], list(dict.fromkeys(("train", "validation", split)))
    models, tuned = study.results / "models" / owner, study.tuned_encoders(owner)
    with_vectors = tuned if (settings.finetune or {}).get("vectors") == "tuned" else []
    encoder, adaptation = list_adaptation(study, settings.encoder, splits, with_vectors)
    compared = [path for name in ("train", split) for path in list_compared(study, owner, method, name)]
    enrolled = [study.enrolment_labels(split)] if method and method.enrolment_labels else []
    vectors = dict.fromkeys((settings.speaker, name) for name in splits if settings.reads_speakers)
    if settings.weighting != "none":
        tests = sorted(set(study.index["shards"]) - {"train", "validation"})
        vectors |= dict.fromkeys((settings.similarity, name) for name in ["train", *tests])
    if method and method.similarity not in ("fused", "encoder"):
        vectors |= dict.fromkeys((method.similarity, name) for name in splits)
    sources = list(vectors)
    if method and method.similarity == "encoder":
        sources += [("encoder", name) for name in ("train", *([] if method.enrolment else [split]))]
    files = {
        "manifests": [path for name in splits for path in study.shards("manifests", name, "csv")],
        "encoder": encoder,
        **adaptation,
        **({"tuned encoders": [study.results / name / "model.safetensors" for name in tuned]} if tuned else {}),
        settings.features: [
            path
            for encoder in tuned or [settings.encoder]
            for name in splits
            for path in study.shards(f"{settings.features}/{encoder}", name, "tfrecord")
        ],
        "speaker vectors": list(
            dict.fromkeys(path for name, each in vectors for path in study.vectors(name, owner, each))
        ),
        "labels": [study.labels(name) for name in splits],
        **({"tuning": [study.winner(owner)]} if settings.tuned else {}),
        "models": [models / f"seed-{seed}/model.keras" for seed in study.seeds],
        "predictions": study.seed_files("predictions", owner, split),
        **({"compared": compared} if compared else {}),
        **({"enrolment labels": enrolled} if enrolled else {}),
        "choices": [study.results / f"calibration/{owner}/choices.json"],
        "calibrated": study.seed_files("calibrated", owner, split),
    }
    listed = set(chain(*files.values()))
    made = dict.fromkeys(path for name, each in sources for path in list_sources(study, name, owner, each))
    behind = [path for path in made if path not in listed]
    return {"behind vectors": behind} | files if behind else files


def list_sources(study: Study, name: str, owner: str, split: str) -> Iterator[Path]:
    """What the files of speaker vectors of a split are made of, as far as it is in the results."""
    vectors, ablation = study.speaker_vectors[name], study.ablations[owner]
    if vectors.kind == "permute":
        yield from list_sources(study, vectors.source, owner, split)
        yield from study.vectors(vectors.source, owner, split)
    if vectors.kind in ("encoder", "embeddings"):
        yield from list_embeddings(study, vectors.source or ablation.encoder, [split])
    if vectors.kind == "model":
        yield from (study.results / f"speaker_models/{name}/{file}.safetensors" for file in ("model", "xvector"))
    if vectors.kind in MADE_FROM_AUDIO:
        yield from study.shards(f"utterance_vectors/{name}", split, "tfrecord")


def list_embeddings(study: Study, encoder: str, splits: list[str]) -> list[Path]:
    """An encoder's embeddings of splits, after all that made them."""
    files, made = list_adaptation(study, encoder, splits, [])
    embeddings = (path for name in splits for path in study.shards(f"embeddings/{encoder}", name, "tfrecord"))
    return [*files, *chain(*made.values()), *embeddings]


def list_adaptation(
    study: Study, encoder: str, splits: list[str], tuned: list[str]
) -> tuple[list[Path], dict[str, list[Path]]]:
    """The files of an encoder; those that it was trained further on, and the speakers' vectors it uses, by kind.

    `tuned` are the encoders of seeds that have vectors of their own.
    """
    folder, options = study.results / "encoders" / encoder, study.encoder(encoder)
    files, made = [folder / "model.safetensors"], {}
    if options["adaptation"] != "none":
        files.append(folder / "adaptation.safetensors")
        labels, heard = options["pseudo_labels"], dict.fromkeys((*options["splits"], "validation"))
        clustered = study.config["pseudo_labels"][labels]
        layered = clustered["features"] == "layer"
        made["pseudo-labels"] = list_embeddings(study, clustered["encoder"], []) if layered else []
        made["pseudo-labels"] += [study.results / f"pseudo_labels/{labels}/clusters.safetensors"]
        made["pseudo-labels"] += [
            path for name in heard for path in study.shards(f"pseudo_labels/{labels}", name, "parquet")
        ]
    if options["adaptation"] == "papt":
        kinds = [f"speaker_embeddings/{name}" for name in tuned or [encoder]]
        similar = options["similarity"]
        made["similar speakers"] = list_embeddings(study, similar, list(dict.fromkeys([*heard, *splits])))
        made["similar speakers"] += [study.results / f"encoder_summaries/{similar}/{name}.parquet" for name in heard]
        made["speaker embeddings"] = [p for kind in kinds for name in splits for p in study.shards(kind, name, "json")]
        files += [study.results / name / "adaptation.safetensors" for name in tuned]
    return files, made


def list_compared(study: Study, owner: str, method: Method | None, split: str) -> list[Path]:
    """What a calibration compares speakers of a split by, where that is an encoder's or the ablation's own."""
    if method is None or method.similarity not in ("fused", "encoder"):
        return []
    if method.enrolment and split != "train":
        return study.seed_files("enrolment_vectors", owner, split)
    return study.vectors(method.similarity, owner, split)
