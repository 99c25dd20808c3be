"""A bundle in memory: graphs that can be run, references, and what its manifest says, all of it checked."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ser_score.archive import Archive
from ser_score.audio import Limits
from ser_score.calibration import Method, References
from ser_score.encoder import Encoder
from ser_score.errors import BundleError
from ser_score.graphs import Graph
from ser_score.mfcc import N_COEFFICIENTS

NONE = "none"
CHOICES = {
    "shift": ("mu", "sigma", "mu_sigma"),
    "neighbours": ("nearest", "all"),
    "similarity": ("fused", "encoder", "mfcc"),
    "weighting": ("uniform", "similarity"),
    "statistics": ("averaged", "pooled"),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")


@dataclass(frozen=True)
class Placement:
    """What gives a speaker a vector for a personalised encoder: that of similar speakers that it was trained with."""

    encoder: str
    neighbours: int
    means: np.ndarray  # (speakers, W) features by `encoder`
    vectors: np.ndarray  # (speakers, W)


@dataclass(frozen=True)
class Bundle:
    """See `docs/bundles.md` of the workflow for what the manifest holds."""

    name: str
    targets: list[str]
    label_range: tuple[float, float]
    coverage: float
    least: int  # utterances that a speaker needs to be calibrated by all of them
    limits: Limits
    ablation: str
    seeds: list[int]
    encoders: dict[str, Encoder]
    encoder_of_seed: list[str]
    heads: list[Graph]
    reads: str | int  # "layers", "frames", or a layer's number
    max_frames: int | None
    reads_speaker: bool
    placement: Placement | None
    compared: str | None  # the encoder of the similarity `encoder`
    references: References | None
    similarity: str | None  # by which speakers are compared with them
    calibration: Method | None  # of a speaker's whole audio, or with enrolled utterances; None without
    enrolling: list[Method]  # by the number of utterances
    half_widths: np.ndarray  # (targets,) of uncalibrated scores
    audio: dict[str, tuple[float, float]]  # ranges of the training audio
    treble: np.ndarray  # (13,)
    manifest: dict


def read_bundle(path: str | Path, threads: int = 1) -> Bundle:
    """Read and check a bundle; a BundleError says what is wrong with it."""
    archive = Archive(path)
    try:
        return _Reader(archive, threads).read()
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OverflowError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)[:200]
        raise BundleError(f"{path}: its manifest is not that of a bundle ({reason})") from None
    except BundleError as error:
        raise BundleError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
    finally:
        archive.close()


def _expect(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(what)


def _number(value, low: float, high: float, what: str, whole: bool = False) -> float:
    right = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    _expect(right and (not whole or isinstance(value, int)), f"{what} is {str(value)[:50]}")
    return value


class _Reader:
    def __init__(self, archive: Archive, threads: int):
        self.archive, self.manifest, self.threads = archive, archive.manifest, threads

    def read(self) -> Bundle:
        manifest = self.manifest
        self.archive.check()
        targets, seeds = manifest["targets"], manifest["seeds"]
        _expect(isinstance(targets, list) and 1 <= len(targets) <= 100, "targets")
        _expect(all(isinstance(name, str) and _NAME.fullmatch(name) for name in targets), "targets have odd names")
        _expect(isinstance(seeds, list) and 1 <= len(seeds) <= 1000, "seeds")
        _expect(all(type(seed) is int for seed in seeds) and len(set(seeds)) == len(seeds), "seeds")
        low, high = (_number(value, -1e6, 1e6, "label_range") for value in manifest["label_range"])
        audio = manifest["audio"]
        limits = Limits(
            max(_number(audio["min_seconds"], 0, 1e6, "min_seconds"), 0.025),
            _number(audio["max_seconds"], 0.025, 1e6, "max_seconds"),
            _number(audio["silence_db"], -1000, 0, "silence_db"),
        )
        encoders = {name: self._read_encoder(name, entry) for name, entry in manifest["encoders"].items()}
        of_seed = manifest["encoder_of_seed"]
        _expect(len(of_seed) == len(seeds) and set(of_seed) <= set(encoders), "encoder_of_seed")
        head = manifest["head"]
        reads, speaker = head["reads"], head["speaker"]
        _expect(reads in ("layers", "frames") or type(reads) is int, "head reads")
        _expect(speaker in (None, "mfcc"), "head speaker: a newer kind than this version of ser-score knows")
        frames = reads == "frames"
        for encoder in (encoders[name] for name in of_seed):
            fits = encoder.frames if frames else reads == "layers" or -encoder.states <= reads < encoder.states
            _expect(fits, "head reads what its encoder does not give")
        inputs = {"features"} | ({"speaker"} if speaker else set())
        heads = [self._graph(f"heads/seed-{seed}.onnx", inputs, {"labels", "fused"}) for seed in seeds]
        references, compared = self._read_references(len(targets), len(seeds), encoders)
        methods = [self._read_method(entry, references) for entry in manifest["calibrations"] if entry["name"] != NONE]
        (plain,) = (entry for entry in manifest["calibrations"] if entry["name"] == NONE)
        training = manifest["training"]["audio"]
        chosen = manifest["calibration"]
        _expect(chosen == NONE or any(method.name == chosen for method in methods), "calibration")
        return Bundle(
            name=str(manifest["name"])[:200],
            targets=targets,
            label_range=(low, high),
            coverage=_number(manifest["coverage"], 0, 1, "coverage"),
            least=max(2, _number(manifest["min_utterances"], 0, 1e9, "min_utterances", whole=True)),
            limits=limits,
            ablation=str(manifest["ablation"])[:200],
            seeds=seeds,
            encoders=encoders,
            encoder_of_seed=of_seed,
            heads=heads,
            reads=reads,
            max_frames=_number(head["max_frames"], 1, 1e6, "max_frames", whole=True) if frames else None,
            reads_speaker=speaker is not None,
            placement=self._read_placement(encoders),
            compared=compared,
            references=references,
            similarity=manifest["references"]["similarity"] if references else None,
            calibration=next((method for method in methods if method.name == chosen), None),
            enrolling=sorted((method for method in methods if method.enrolment), key=lambda m: m.enrolment),
            half_widths=self._read_widths(plain),
            audio={key: self._read_range(training[key], key) for key in ("level_db", "seconds", "treble_db")},
            treble=self._read_treble(training["treble_weights"]),
            manifest=manifest,
        )

    def _graph(self, part: str, inputs: set[str], outputs: set[str]) -> Graph:
        return Graph(self.archive.read(part), part, inputs, outputs, self.threads)

    def _arrays(self, entry: dict, shapes: dict[str, int]) -> dict[str, np.ndarray]:
        arrays = {name: self.archive.read_array(entry[name]) for name in shapes}
        for name, axes in shapes.items():
            _expect(arrays[name].ndim == axes, f"{name} has {arrays[name].ndim} axes, expected {axes}")
        return arrays

    def _read_encoder(self, name: str, entry: dict) -> Encoder:
        first = None
        if entry["first"] is not None:
            first = self._arrays(entry["first"], {"kernel": 2, "gamma": 1, "beta": 1})
            size = len(first["kernel"])
            _expect(len(first["gamma"]) == size == len(first["beta"]), f"{name}: sizes of its first convolution")
        inputs = {"features", "inner"} | ({"vector"} if entry["vector"] is True else set())
        outputs = {"sums"} | ({"frames"} if entry["frames"] is True else set())
        _expect(entry["dtype"] in ("float16", "float32"), f"{name}: dtype")
        return Encoder(
            front=self._graph(entry["front"], {"samples"} | ({"kernel", "bias"} if first else set()), {"features"}),
            body=self._graph(entry["body"], inputs, outputs),
            first=first,
            normalise=entry["normalise"] is True,
            stride=_number(entry["stride"], 1, 320, f"{name}: stride", whole=True),
            dtype=np.dtype(entry["dtype"]),
            states=_number(entry["states"], 1, 1000, f"{name}: states", whole=True),
            width=_number(entry["width"], 1, 1 << 16, f"{name}: width", whole=True),
            frames=entry["frames"] is True,
            vector=entry["vector"] is True,
        )

    def _read_placement(self, encoders: dict[str, Encoder]) -> Placement | None:
        entry, needed = self.manifest["placement"], any(encoder.vector for encoder in encoders.values())
        _expect((entry is not None) == needed, "placement")
        if entry is None:
            return None
        _expect(entry["encoder"] in encoders and not encoders[entry["encoder"]].vector, "placement: encoder")
        arrays = self._arrays(entry, {"means": 2, "vectors": 2})
        _expect(len(arrays["means"]) == len(arrays["vectors"]), "placement: speakers")
        _expect(arrays["means"].shape[1] == encoders[entry["encoder"]].width, "placement: width")
        widths = {encoder.width for encoder in encoders.values() if encoder.vector}
        _expect(widths == {arrays["vectors"].shape[1]}, "placement: width")
        count = _number(entry["neighbours"], 1, 1e9, "placement: neighbours", whole=True)
        return Placement(entry["encoder"], count, **arrays)

    def _read_references(self, targets: int, seeds: int, encoders: dict) -> tuple[References | None, str | None]:
        entry = self.manifest["references"]
        if entry is None:
            return None, None
        arrays = self._arrays(entry, {"vectors": 3, "statistics": 2, "counts": 1})
        count, similarity = len(arrays["counts"]), entry["similarity"]
        _expect(similarity in CHOICES["similarity"], "references: similarity")
        _expect(arrays["vectors"].shape[:2] in ((1, count), (seeds, count)), "references: vectors")
        _expect(arrays["statistics"].shape == (count, 2 * targets), "references: statistics")
        _expect((arrays["counts"] > 0).all() and (arrays["statistics"][:, targets:] >= 0).all(), "references")
        compared = entry["encoder"] if similarity == "encoder" else None
        _expect(similarity != "encoder" or compared in encoders, "references: encoder")
        width = {"mfcc": N_COEFFICIENTS - 1, "encoder": encoders[compared].width if compared else 0}.get(similarity)
        _expect(width in (None, arrays["vectors"].shape[2]), "references: width")
        means, stds = np.split(arrays["statistics"], 2, axis=1)
        return References(arrays["vectors"], means, stds, arrays["counts"]), compared

    def _read_method(self, entry: dict, references: References | None) -> Method:
        name = entry["name"]
        _expect(references is not None and _NAME.fullmatch(name) is not None, "calibrations")
        for key, allowed in CHOICES.items():
            _expect(entry[key] in allowed, f"{name}: {key}")
        similarity = self.manifest["references"]["similarity"]
        _expect(entry["similarity"] == similarity, f"{name}: similarity is not the references'")
        points = entry["points"]
        _expect(len(points) == len(self.manifest["seeds"]), f"{name}: points")
        for row in points:
            _expect(len(row) == len(self.manifest["targets"]), f"{name}: points")
            for point in row:
                _number(point["k"], 1, len(references.counts), f"{name}: k", whole=True)
                if point["alpha"] is not None:
                    _number(point["alpha"], 0, 1, f"{name}: alpha")
                if point["max_similarity"] is not None:
                    _number(point["max_similarity"], -1, 1, f"{name}: max_similarity")
        return Method(
            name,
            **{key: entry[key] for key in CHOICES},
            enrolment=_number(entry["enrolment"], 0, 1e6, f"{name}: enrolment", whole=True),
            enrolment_labels=entry["enrolment_labels"] is True,
            points=points,
            half_widths=self._read_widths(entry),
        )

    def _read_widths(self, entry: dict) -> np.ndarray:
        widths = entry["half_widths"]
        _expect(len(widths) == len(self.manifest["targets"]), "half_widths")
        return np.array([math.inf if w is None else _number(w, 0, 1e9, "half_widths") for w in widths])

    def _read_range(self, value: list, what: str) -> tuple[float, float]:
        low, high = (_number(end, -1e9, 1e9, what) for end in value)
        return low, high

    def _read_treble(self, weights: list) -> np.ndarray:
        _expect(len(weights) == N_COEFFICIENTS, "treble_weights")
        return np.array([_number(weight, -1e6, 1e6, "treble_weights") for weight in weights])
