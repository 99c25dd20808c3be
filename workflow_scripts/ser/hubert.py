"""HuBERT's forward pass for embedding: every layer pooled over time, one utterance independent of the next.

The arithmetic is that of `transformers.HubertModel` in evaluation mode (Hsu et al. 2021, arXiv 2106.07447), which the
tests hold it against; this module needs torch alone. Utterances of a batch are packed end to end, not padded: what
works frame by frame runs on the packed frames, what mixes frames (convolutions, attention) on each utterance.

Audio of more than `WHOLE` frames goes through the Transformer in windows of `INNER` frames that see `CONTEXT` more on
either side; the convolutional front and its normalisation are exact at any length, and memory does not grow with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ser.files import DataError, read_json

HOP, WINDOW = 320, 400  # samples from a frame to the next (50 Hz at 16 kHz), and that a frame sees
INNER, CONTEXT = 3000, 500  # frames: a minute, seeing 10 s more on either side
WHOLE = INNER + 2 * CONTEXT  # frames
# Audio that the caller should bring at once, s. On a CPU a batch is one utterance, so that nothing depends on others.
BATCH_SECONDS = {"cpu": 0, "cuda": 240}
CHUNK = {"cpu": 100, "cuda": 3000}  # frames of the convolutional front at once: what a cache holds


@dataclass(frozen=True, eq=False)
class Embedding:
    """What an encoder makes of one utterance."""

    pooled: np.ndarray  # (layers + 1, width) float32, the mean over time of each hidden state
    frames: np.ndarray | None  # (n_frames, width) float32 of one layer, where asked for
    n_frames: int  # at 50 Hz


class Linear:
    """(frames, in) -> (frames, out).

    On a CPU by oneDNN with its weight packed once and GELU fused: torch hands float32 products to MKL, which on AMD
    processors reaches half of oneDNN's speed (benchmarks/embed.py shows both).
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, like: torch.Tensor):
        self.weight, self.bias = weight.to(like), bias.to(like)
        self.onednn = like.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if self.onednn:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def __call__(self, x: torch.Tensor, gelu: bool = False) -> torch.Tensor:
        if self.onednn:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *_activation(gelu))
        x = F.linear(x, self.weight, self.bias)
        return F.gelu(x) if gelu else x


class Convolution:
    """Over time, (time, in) -> (time', out): channels last in memory; on a CPU by oneDNN, as `Linear`."""

    def __init__(self, weight, bias, like: torch.Tensor, stride: int = 1, padding: int = 0, groups: int = 1):
        # (out, in / groups, 1, kernel): 2-D over (1, time), because torch knows channels-last for 2-D
        self.weight = weight[:, :, None].contiguous(memory_format=torch.channels_last).to(like)
        self.bias = None if bias is None else bias.to(like)
        self.stride, self.padding, self.groups = [1, stride], [0, padding], groups
        self.onednn = like.device.type == "cpu" and torch.backends.mkldnn.is_available()
        if self.onednn:
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, self.stride, [1, 1], groups, [1, weight.shape[1] * groups, 1, 300]
            )

    def __call__(self, x: torch.Tensor, gelu: bool = False) -> torch.Tensor:
        x = x.T[None, :, None]  # (1, in, 1, time)
        if self.onednn:
            window = self.padding, self.stride, [1, 1], self.groups
            x = torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *window, *_activation(gelu))
        else:
            x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
            x = F.gelu(x) if gelu else x
        return x[0, :, 0].T


class Norm:
    """LayerNorm over the last axis."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, like: torch.Tensor, eps: float):
        self.weight, self.bias, self.eps = weight.to(like), bias.to(like), eps

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


def _activation(gelu: bool) -> tuple:
    """oneDNN's arguments for what follows a product: exact GELU or nothing."""
    return ("gelu", [], "none") if gelu else ("none", [], None)


class Encoder:
    """A frozen HuBERT from an encoder's folder (`config.json`, `preprocessor_config.json`, `model.safetensors`).

    `device` is `auto` (CUDA where present, else CPU), `cpu` or `cuda`; CUDA computes in bfloat16 (float16 on cards
    without it), the CPU in float32 with `threads` threads.
    """

    def __init__(self, folder: str | Path, device: str = "auto", threads: int | None = None):
        folder = Path(folder)
        if threads:
            torch.set_num_threads(threads)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32
        if device != "cpu":
            dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        self.like = torch.empty(0, device=device, dtype=dtype)
        self.batch_seconds, self.chunk = BATCH_SECONDS[self.like.device.type], CHUNK[self.like.device.type]
        self.config = config = read_json(folder / "config.json")
        self.normalise = read_json(folder / "preprocessor_config.json")["do_normalize"]
        self.stable, self.grouped = config["do_stable_layer_norm"], config["feat_extract_norm"] == "group"
        self._build(load_file(folder / "model.safetensors"))

    def _build(self, weights: dict[str, torch.Tensor]) -> None:
        config, eps = self.config, self.config["layer_norm_eps"]

        def pair(name: str):
            return weights[f"{name}.weight"], weights.get(f"{name}.bias")

        def joined(names: list[str]):
            return [torch.cat(parts) for parts in zip(*map(pair, names), strict=True)]

        front = [f"feature_extractor.conv_layers.{i}" for i in range(len(config["conv_dim"]))]
        self.first, bias = pair(f"{front[0]}.conv")
        self.first = self.first[:, 0], torch.zeros(len(self.first)) if bias is None else bias  # (out, kernel), (out,)
        self.front = [
            Convolution(*pair(f"{name}.conv"), self.like, stride)
            for name, stride in zip(front[1:], config["conv_stride"][1:], strict=True)
        ]
        if self.grouped:
            self.group_norm = pair(f"{front[0]}.layer_norm")
        else:
            self.front_norms = [Norm(*pair(f"{name}.layer_norm"), self.like, 1e-5) for name in front]
        name = "feature_projection"
        self.features_norm = (
            Norm(*pair(f"{name}.layer_norm"), self.like, eps) if config["feat_proj_layer_norm"] else lambda x: x
        )
        self.projection = Linear(*pair(f"{name}.projection"), self.like)
        name = "encoder.pos_conv_embed"
        self.batch_norm = None
        if config["conv_pos_batch_norm"]:
            kinds = ("running_mean", "running_var", "weight", "bias")
            self.batch_norm = [weights[f"{name}.batch_norm.{kind}"].to(self.like) for kind in kinds]
        else:  # weight norm: g · v / |v|, folded once
            g, v = (weights[f"{name}.conv.parametrizations.weight.original{i}"] for i in (0, 1))
            weights[f"{name}.conv.weight"] = g * v / v.norm(dim=(0, 1), keepdim=True)
        kernel, groups = config["num_conv_pos_embeddings"], config["num_conv_pos_embedding_groups"]
        self.positions = Convolution(*pair(f"{name}.conv"), self.like, padding=kernel // 2, groups=groups)
        self.norm = Norm(*pair("encoder.layer_norm"), self.like, eps)
        self.layers = []
        for name in (f"encoder.layers.{i}" for i in range(config["num_hidden_layers"])):
            layer = {
                "qkv": Linear(*joined([f"{name}.attention.{part}_proj" for part in "qkv"]), self.like),
                "mixed": Linear(*pair(f"{name}.attention.out_proj"), self.like),
                "wide": Linear(*pair(f"{name}.feed_forward.intermediate_dense"), self.like),
                "narrow": Linear(*pair(f"{name}.feed_forward.output_dense"), self.like),
                "norm": Norm(*pair(f"{name}.layer_norm"), self.like, eps),
                "final_norm": Norm(*pair(f"{name}.final_layer_norm"), self.like, eps),
            }
            self.layers.append(layer)

    @torch.inference_mode()
    def embed(self, waves: list[np.ndarray], frames_layer: int | None = None) -> list[Embedding]:
        """Embed utterances (float32 samples at 16 kHz, 25 ms at least); `frames_layer` 0 is the Transformer's input.

        Hidden states are those of transformers' `output_hidden_states`: with a pre-norm Transformer (large, xlarge) the
        last one is the last layer's output before the encoder's final LayerNorm.
        """
        return [embedding for wave in waves for embedding in [self._one(wave, frames_layer)]]
