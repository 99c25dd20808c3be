"""A small bundle, made by the workflow's own code of made-up results: a random encoder, random heads, two seeds."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import transformers
from made_results import MadeResults
from transformers import Wav2Vec2FeatureExtractor

from ser.audio.facts import FACTS
from ser.audio.mfcc import mean_mfcc
from ser.bundles.bundle import Bundling, Sources, make_bundle
from ser.config.ablation import Ablation
from ser.config.bundles import list_bundled
from ser.config.calibration_methods import Method, read_methods
from ser.encoders import pretrained
from ser.encoders.past import Past
from ser.files import read_json, write_json
from ser.formats.parquet_seal import sealed_writer
from ser.heads.model import build_head
from ser.heads.saving import save_model

WIDTH = 12  # of made results' vectors, and so of the encoder
ENCODER = {
    "conv_dim": [16] * 7,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
AUDIO = {"min_seconds": 0.1, "max_seconds": 600, "silence_db": -80}
ABLATION = Ablation(encoder="demo", layer="weighted", units=[8], training={"dropout": 0.1, "threads": 1})
TARGETS = ["valence", "arousal"]


def make_encoder(folder: Path, position: str | None = None, family: str = "Hubert", **config) -> Path:
    """The folder of an encoder with random weights, none of which is 0 or 1; `family` as in transformers' classes."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**ENCODER | config)
    model = getattr(transformers, f"{family}Model")(config).eval()
    for name, parameter in model.named_parameters():
        if "bias" in name or "norm" in name or "original0" in name:
            parameter.data.mul_(1 + 0.3 * torch.rand_like(parameter)).add_(0.05 * torch.randn_like(parameter))
    facts = {"weights": "random-init"} | ({"position": position} if position else {})
    pretrained.save(model, Wav2Vec2FeatureExtractor(do_normalize=True), folder, Past(), **facts)
    return folder


def make_head(ablation: Ablation, layers: int, width: int, seed: int, targets: int = 2):
    """A head none of whose numbers is as it starts."""
    mean, sd, name = [4.0] * targets, [1.5] * targets, f"head_{seed}"
    head = build_head(ablation, n_layers=layers, width=width, label_mean=mean, label_sd=sd, name=name)
    rng = np.random.default_rng(seed)
    head.set_weights([np.abs(rng.normal(0.3, 0.3, weight.shape)) + 0.05 for weight in head.get_weights()])
    return head


def make_small_bundle(folder: Path, calibration: str = "mu_sigma", encoder: Path | None = None, **changes) -> Path:
    """`bundle.zip` in a folder, with all that it is made of but an encoder that is given."""
    made = MadeResults(folder, ablations=["baseline"])
    made.choose("baseline")
    made.calibrate("baseline", "validation")
    encoder = encoder or make_encoder(folder / "encoder")
    layers = read_json(encoder / "config.json")["num_hidden_layers"] + 1
    heads = [folder / f"head-{seed}.keras" for seed in made.seeds]
    for seed, path in zip(made.seeds, heads, strict=True):
        save_model(str(path), make_head(ABLATION, layers, WIDTH, seed))
    facts = {"status": "ok", "duration_s": 3.0, "rms_db": -30.0, "reason": ""}
    with sealed_writer(folder / "facts.parquet", FACTS) as writer:
        writer.write_table(pa.Table.from_pylist([facts, facts | {"duration_s": 9.0, "rms_db": -15.0}], FACTS))
    speakers = {f"train {n:03d}": {"mfcc": mean_mfcc(speak(5, seed=n)).tolist()} for n in range(3)}
    write_json(folder / "speakers.json", speakers)
    methods = {method.name: method for method in read_methods(made.methods)}
    bundling = {
        "name": "small",
        "ablation_name": "baseline",
        "ablation": ABLATION,
        "encoder": {"dtype": "float32", "frames_layer": -1},
        "methods": list_bundled(methods.get(calibration, Method("none")), list(methods.values())),
        "seeds": made.seeds,
        "all_seeds": made.seeds,
        "targets": TARGETS,
        "label_range": [1, 7],
        "coverage": 0.8,
        "min_utterances": 3,
        "min_reference_utterances": 1,
        "audio": AUDIO,
        "placed": None,
        "placing_dtype": None,
        "notes": {"labels": "Made up.", "licence": "None."},
        "code": [],
    }
    train = made.files("baseline", "train")
    sources = Sources(
        heads=list(map(str, heads)),
        encoders=[str(encoder)] * len(heads),
        compared=None,
        placing=None,
        vectors=None,
        means=[],
        train_labels=made.labels("train"),
        validation_labels=made.labels("validation"),
        choices=made.choices("baseline"),
        train={kind: train[kind] for kind in ("fused", "encoder", "mfcc")},
        validation=made.seed_files("calibrated", "baseline", "validation"),
        facts=[str(folder / "facts.parquet")],
        speakers=[str(folder / "speakers.json")],
    )
    make_bundle(
        Bundling(**bundling | changes), sources, str(folder / "bundle.zip"), str(folder / "bundle.speakers.csv")
    )
    return folder / "bundle.zip"


def speak(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """Something like speech: coloured noise that comes and goes, (n,) float32."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    wave = np.convolve(rng.normal(0, 0.2, n), np.ones(8) / 8, "same")
    return (wave * (0.6 + 0.4 * np.sin(np.arange(n) * (3 + seed) / rate))).astype(np.float32)
