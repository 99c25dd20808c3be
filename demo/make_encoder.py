"""Make a randomly initialised HuBERT in Hugging Face format, to pre-train or for tests and benchmarks; or store one.

    python demo/make_encoder.py --shape small --out random
    python demo/make_encoder.py --store results/encoders/own --out demo/encoder

`small` is where `demo/encoder/` began (see its README); `base`, `large` and `xlarge` have the shapes of
facebook/hubert-{base,large,xlarge}, `tiny` is for tests. The same shape and seed give the same files with the same
versions of torch and transformers. `--store` copies an encoder that the workflow pre-trained, weights as float16.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
SHAPES = {
    "tiny": PRE_NORM
    | {
        "conv_dim": [64] * 7,
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "num_conv_pos_embeddings": 32,
    },
    "small": {
        "do_stable_layer_norm": True,
        "conv_dim": [64, 64, 96, 128, 160, 192, 192],
        "hidden_size": 192,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "intermediate_size": 768,
        "num_conv_pos_embeddings": 64,
        "layerdrop": 0.0,
        **{f"{name}_dropout": 0.0 for name in ("hidden", "attention", "activation", "feat_proj", "final")},
    },
    "base": {},
    "large": PRE_NORM
    | {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "xlarge": PRE_NORM
    | {"hidden_size": 1280, "num_hidden_layers": 48, "num_attention_heads": 16, "intermediate_size": 5120},
}


def make(shape: str, out: Path, seed: int, **overrides) -> None:
    """Write config.json, preprocessor_config.json, model.safetensors and a card that says `random-init`."""
    torch.manual_seed(seed)
    model = HubertModel(HubertConfig(**SHAPES[shape] | overrides))
    model.save_pretrained(out, max_shard_size="10GB")
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=shape != "base").save_pretrained(out)
    card = {"base": f"HuBERT of the {shape} shape, seed {seed}", "weights": "random-init"}
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{out}: {parameters:,} parameters, randomly initialised")


def store(source: Path, out: Path) -> None:
    """Copy a pre-trained encoder's folder with its weights as float16, and say in its card how it was trained."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "preprocessor_config.json", "adaptation.safetensors", "training.csv", "heard.txt"):
        shutil.copyfile(source / name, out / name)
    weights = {name: tensor.half() for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    trained = json.loads((source / "card.json").read_text())
    kept = {key: trained[key] for key in ("hours", "clusters", "settings", "parameters", "transformers")}
    card = {
        "base": "pre-trained from scratch, see README.md",
        "weights": "pretrained",
        "pretraining": kept,
        "heard": trained["heard"],
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, help="the folder of a pre-trained encoder")
    options = parser.parse_args()
    if options.store:
        store(options.store, options.out)
    else:
        make(options.shape, options.out, options.seed)
