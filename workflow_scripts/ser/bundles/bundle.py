"""A bundle of an ablation: encoder and heads as ONNX, what calibration knows, and what a reader should."""

import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ser.bundles.archive import write_bundle
from ser.bundles.card import describe_labels, format_bundle_card
from ser.bundles.encoder_graph import export_encoder
from ser.bundles.head_graph import export_head
from ser.bundles.references import collect_placement, collect_references, describe_method, measure_half_widths
from ser.bundles.training_audio import describe_audio
from ser.config.ablation import Ablation
from ser.config.calibration_methods import Method
from ser.files import DataError, read_json, sha256
from ser.formats.csv_files import write_csv
from ser.formats.utterances import read_labels
from ser.heads.prediction import load_heads

PACKAGES = ("keras", "numpy", "onnx", "tensorflow")
SPEAKER_COLUMNS = ["reference", "speaker"]


@dataclass(frozen=True)
class Bundling:
    """What is bundled: the `bundles` entry of a config, and what belongs to it."""

    name: str
    ablation_name: str
    ablation: Ablation
    encoder: dict  # the settings of its encoder, and of the encoder that places speakers: `dtype`, `frames_layer`
    methods: list[Method]  # the calibration first, then those that do the same with enrolled utterances
    seeds: list[int]
    all_seeds: list[int]  # of the study
    targets: list[str]
    label_range: list[float]
    coverage: float
    min_utterances: int
    min_reference_utterances: int
    audio: dict
    placed: int | None  # similar speakers whose vectors are averaged, with a personalised encoder
    placing_dtype: str | None
    notes: dict[str, str]  # `labels` and `licence`, sentences of the user's own
    code: list[str]

    @property
    def positions(self) -> list[int]:
        return [self.all_seeds.index(seed) for seed in self.seeds]


@dataclass(frozen=True)
class Sources:
    """What it is made of. Encoders are folders; `heads` and `encoders` have one for each of the bundle's seeds."""

    heads: list[str]
    encoders: list[str]
    compared: str | None  # the encoder of the similarity `encoder`
    placing: str | None
    vectors: str | None  # `adaptation.safetensors`
    means: list[str]
    train_labels: str
    validation_labels: str
    choices: str
    train: dict[str, list[str]]
    validation: list[str]  # one for each of the bundle's seeds
    facts: list[str]
    speakers: list[str]


def make_bundle(bundling: Bundling, sources: Sources, path: str, speakers_path: str) -> None:
    """Write a bundle, and beside it, for those who have the corpus, who its references are.

    Raises DataError, with the reason, for an encoder or a head that cannot be bundled.
    """
    parts = _Parts(bundling)
    try:
        own = {"dtype": bundling.encoder["dtype"], "heads_read": True}
        ids = [parts.add_encoder(folder, **own) for folder in sources.encoders]
        for seed, head in load_heads(dict(zip(bundling.seeds, sources.heads, strict=True))).items():
            parts.content[f"heads/seed-{seed}.onnx"] = export_head(head)
        compared = parts.add_encoder(sources.compared, own["dtype"]) if sources.compared else None
        placing = parts.add_encoder(sources.placing, bundling.placing_dtype) if sources.placing else None
    except ValueError as error:
        raise DataError(f"bundle {bundling.name}: {error}") from error
    if placing:
        placement = collect_placement(sources.vectors, sources.means)
        placing = {"encoder": placing, "neighbours": bundling.placed} | parts.add_arrays("placement", placement)
    validation, train = (read_labels(p, bundling.targets) for p in (sources.validation_labels, sources.train_labels))
    names, calibrations, references = [], [], None
    if bundling.methods[0].name != "none":
        similarity = bundling.methods[0].similarity
        arrays, names = collect_references(
            sources.train_labels,
            bundling.targets,
            sources.train,
            bundling.positions,
            bundling.min_reference_utterances,
            similarity,
        )
        references = {"similarity": similarity, "encoder": compared} | parts.add_arrays("references", arrays)
    choices = read_json(sources.choices)["choices"]
    for method, fewest in [(Method("none"), 1), *((method, bundling.min_utterances) for method in bundling.methods)]:
        described = (
            vars(method)
            if method.name == "none"
            else describe_method(method, choices, bundling.seeds, bundling.targets)
        )
        if described and method.name not in [known["name"] for known in calibrations]:
            widths = measure_half_widths(method, sources.validation, validation, fewest, bundling.coverage)
            calibrations.append(described | {"half_widths": widths})
    manifest = {
        "name": bundling.name,
        "targets": bundling.targets,
        "label_range": bundling.label_range,
        "coverage": bundling.coverage,
        "min_utterances": bundling.min_utterances,
        "audio": bundling.audio,
        "ablation": bundling.ablation_name,
        "calibration": bundling.methods[0].name,
        "seeds": bundling.seeds,
        "head": _describe_head(bundling.ablation),
        "encoders": parts.encoders,
        "encoder_of_seed": ids,
        "placement": placing,
        "references": references,
        "calibrations": calibrations,
        "training": {"audio": describe_audio(sources.facts, sources.speakers), "labels": describe_labels(train)},
        "notes": bundling.notes,
        "settings": {"ablation": bundling.ablation.to_dict(), "encoder": bundling.encoder},
        "provenance": {
            "made_of": {source: sha256(source) for source in _list_files(sources)},
            "code": bundling.code,
            "packages": {package: importlib.metadata.version(package) for package in PACKAGES},
        },
    }
    cards = [read_json(Path(folder) / "card.json") for folder in sources.encoders]
    parts.content["README.md"] = format_bundle_card(manifest, cards, choices).encode()
    write_bundle(path, manifest, parts.content)
    rows = [{"reference": f"reference-{n:04d}", "speaker": speaker} for n, speaker in enumerate(names, 1)]
    write_csv(speakers_path, SPEAKER_COLUMNS, rows)
    logging.info("%s: %d parts, %.1f MB", path, len(parts.content), Path(path).stat().st_size / 1e6)


class _Parts:
    """The parts of a bundle as they come together."""

    def __init__(self, bundling: Bundling):
        self._bundling, self._ids = bundling, {}
        self.content: dict[str, bytes] = {}
        self.encoders: dict[str, dict] = {}

    def add_encoder(self, folder: str, dtype: str, heads_read: bool = False) -> str:
        """The name of an encoder in the bundle; one that heads read may have to give frames, or its output alone."""
        if folder in self._ids:
            return self._ids[folder]
        name = self._ids[folder] = f"encoder-{len(self._ids) + 1}"
        ablation, settings = self._bundling.ablation, self._bundling.encoder
        frames = settings["frames_layer"] if heads_read and ablation.reads_frames else None
        output = heads_read and ablation.finetune is not None and ablation.layer != "weighted"
        graphs = export_encoder(folder, frames, output)
        entry = graphs.facts | {"dtype": dtype}
        for kind in ("front", "body"):
            entry[kind] = f"{name}/{kind}.onnx"
            self.content[entry[kind]] = getattr(graphs, kind)
        entry["first"] = self.add_arrays(f"{name}/first", graphs.first) if graphs.first else None
        self.encoders[name] = entry
        return name

    def add_arrays(self, folder: str, arrays: dict[str, np.ndarray]) -> dict[str, dict]:
        """Arrays as parts of plain numbers, little-endian; what says where each is, and its type and shape."""
        described = {}
        for name, array in arrays.items():
            array = np.ascontiguousarray(array, "<f4" if array.dtype == np.float32 else "<f8")
            part = f"{folder}/{name}.{array.dtype.str[1:]}"
            self.content[part] = array.tobytes()
            described[name] = {"part": part, "shape": list(array.shape)}
        return described


def _describe_head(ablation: Ablation) -> dict:
    reads = "frames" if ablation.reads_frames else "layers" if ablation.layer == "weighted" else ablation.layer
    most = ablation.units["max_frames"] if ablation.reads_frames else None
    return {"reads": reads, "max_frames": most, "speaker": "mfcc" if ablation.reads_speakers else None}


def _list_files(sources: Sources) -> list[str]:
    folders = {*sources.encoders, *filter(None, [sources.compared, sources.placing])}
    files = [*sources.heads, *(f"{folder}/card.json" for folder in folders), *filter(None, [sources.vectors])]
    files += [sources.train_labels, sources.validation_labels, sources.choices, *sources.validation, *sources.means]
    return sorted({*files, *(path for paths in sources.train.values() for path in paths)})
