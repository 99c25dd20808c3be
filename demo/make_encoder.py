"""Make a randomly initialised HuBERT in Hugging Face format: for tests, benchmarks and the demo, not for results.

    python demo/make_encoder.py --shape tiny --out demo/encoder

`tiny` made `demo/encoder/`; `base`, `large` and `xlarge` have the shapes of facebook/hubert-{base,large,xlarge}. The
same shape and seed give the same files with the same versions of torch and transformers. Needs transformers only.
"""

import argparse
import json
from pathlib import Path

import torch
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.shape, options.out, options.seed)
