"""HuBERT's forward pass for embedding: every layer pooled over time, one utterance independent of the next.

The arithmetic is that of `transformers.HubertModel` in evaluation mode (Hsu et al. 2021, arXiv 2106.07447), which the
tests hold it against; this module needs torch alone. Utterances of a batch are packed end to end, not padded: what
works frame by frame runs on the packed frames, what mixes frames (convolutions, attention) on each utterance.

On a CPU products and convolutions go to oneDNN, activations and residuals fused: torch's own float32 products go to
MKL, which reaches half of oneDNN's speed on AMD processors (benchmarks/embed.py shows both).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ser.files import read_json

BATCH_SECONDS = {"cpu": 0, "cuda": 240}  # audio in a batch; 0 is one utterance, so that nothing depends on neighbours
CHUNK_FRAMES = {"cpu": 100, "cuda": 3000}  # frames of the convolutional front at once: what a cache holds
HOP, WINDOW = 320, 400  # samples from a frame to the next, and that a frame sees


@dataclass(frozen=True, eq=False)
class Embedding:
    """What an encoder makes of one utterance."""

    pooled: np.ndarray  # (layers + 1, width) float32, the mean over time of each hidden state
    frames: np.ndarray | None  # (n_frames, width) float32 of one layer, where asked for
    n_frames: int  # at 50 Hz


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
        self.config = read_json(folder / "config.json")
        self.normalise = read_json(folder / "preprocessor_config.json")["do_normalize"]
        self.layers, self.width = self.config["num_hidden_layers"], self.config["hidden_size"]
        self.device, self.dtype = torch.device(device), torch.float32
        if self.device.type == "cuda":
            self.dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        self.batch_seconds = BATCH_SECONDS[self.device.type]
        self.chunk = CHUNK_FRAMES[self.device.type]
        weights = load_file(folder / "model.safetensors")
        name = "encoder.pos_conv_embed.conv."
        if f"{name}parametrizations.weight.original0" in weights:  # weight norm: g · v / |v|, folded once
            g, v = (weights.pop(f"{name}parametrizations.weight.original{i}") for i in (0, 1))
            weights[f"{name}weight"] = g * v / v.norm(dim=(0, 1), keepdim=True)
        for layer in range(self.layers):  # query, key and value in one product
            for kind in ("weight", "bias"):
                parts = [weights.pop(f"encoder.layers.{layer}.attention.{p}_proj.{kind}") for p in "qkv"]
                weights[f"encoder.layers.{layer}.attention.qkv.{kind}"] = torch.cat(parts)
        self.weights = {name: self._place(name, value) for name, value in weights.items()}

    @torch.inference_mode()
    def embed(self, waves: list[np.ndarray], frames_layer: int | None = None) -> list[Embedding]:
        """Embed utterances (float32 samples at 16 kHz each); `frames_layer` 0 is the Transformer's input.

        Hidden states are those of transformers' `output_hidden_states`: with a pre-norm Transformer (large, xlarge) the
        last one is the last layer's output before the encoder's final LayerNorm.
        """
        features = [self._features(wave) for wave in waves]
        lengths = [len(feature) for feature in features]
        pooled, frames = [], [None] * len(waves)
        for layer, state in enumerate(self._hidden_states(torch.cat(features), lengths)):  # (total frames, width)
            parts = state.split(lengths)
            pooled.append(torch.stack([part.mean(0, dtype=torch.float32) for part in parts]))
            if layer == frames_layer:
                frames = [part.float().cpu().numpy() for part in parts]
        pooled = torch.stack(pooled, 1).cpu().numpy()  # (utterances, layers + 1, width)
        return [Embedding(*values) for values in zip(pooled, frames, lengths, strict=True)]

    def _features(self, wave: np.ndarray) -> torch.Tensor:
        """Samples -> (frames, conv_dim): the feature extractor's normalisation and the convolutional front."""
        if self.normalise:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        wave = torch.from_numpy(wave.astype(np.float32, copy=False))
        first = self._first_convolution(wave)
        wave = wave.to(self.device, self.dtype)
        grouped = self.config["feat_extract_norm"] == "group"
        kernels, strides = self.config["conv_kernel"], self.config["conv_stride"]
        n_frames = (len(wave) - WINDOW) // HOP + 1
        chunks = []
        for start in range(0, n_frames, self.chunk):
            end = min(start + self.chunk, n_frames)
            x = wave[start * HOP : (end - 1) * HOP + WINDOW]
            for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
                name = f"feature_extractor.conv_layers.{i}."
                if i == 0:
                    x = self._linear(x.unfold(0, kernel, stride), *first, gelu=grouped)
                else:
                    x = self._convolve(x, f"{name}conv", stride=stride, gelu=grouped)
                if not grouped:
                    x = F.gelu(self._norm(x, f"{name}layer_norm", eps=1e-5))
            chunks.append(x)  # (frames, conv_dim)
        return torch.cat(chunks)

    def _first_convolution(self, wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias of the first convolution; those of HuBERT-base take in the GroupNorm that follows.

        It normalises each channel over the utterance's time. A channel w · x has mean w · E[x] and variance
        w · Cov(x) · w over the windows x, so that ten numbers and their covariances say what a pass over all of the
        convolution's output would.
        """
        name = "feature_extractor.conv_layers.0."
        weight, bias = self.weights[f"{name}conv.weight"], self.weights.get(f"{name}conv.bias")
        if self.config["feat_extract_norm"] == "layer":
            return weight, bias
        kernel, stride = self.config["conv_kernel"][0], self.config["conv_stride"][0]
        windows = wave.double().unfold(0, kernel, stride)  # (first frames, kernel)
        mean = windows.mean(0)
        covariance = windows.T @ windows / len(windows) - mean[:, None] * mean
        w = self.first
        variance = ((w @ covariance) * w).sum(1).clamp(min=0)
        scale, shift = (self.weights[f"{name}layer_norm.{kind}"].double().cpu() for kind in ("weight", "bias"))
        scale = scale / (variance + 1e-5).sqrt()
        weight, bias = w * scale[:, None], shift - w @ mean * scale  # a bias before the norm cancels
        return tuple(value.to(self.device, self.dtype) for value in (weight[:, None, None], bias))

    def _hidden_states(self, x: torch.Tensor, lengths: list[int]):
        """Packed features (total frames, conv_dim) -> yields each hidden state (total frames, width)."""
        if self.config["feat_proj_layer_norm"]:
            x = self._norm(x, "feature_projection.layer_norm")
        x = self._linear(x, "feature_projection.projection")
        x = x + torch.cat([self._positions(part) for part in x.split(lengths)])
        stable = self.config["do_stable_layer_norm"]
        if not stable:
            x = self._norm(x, "encoder.layer_norm")
        yield x
        for layer in range(self.layers):
            name = f"encoder.layers.{layer}."
            y = self._attention(self._norm(x, f"{name}layer_norm") if stable else x, lengths, f"{name}attention.")
            x = self._linear(y, f"{name}attention.out_proj", residual=x)
            if not stable:
                x = self._norm(x, f"{name}layer_norm")
            y = self._norm(x, f"{name}final_layer_norm") if stable else x
            y = self._linear(y, f"{name}feed_forward.intermediate_dense", gelu=True)
            x = self._linear(y, f"{name}feed_forward.output_dense", residual=x)
            if not stable:
                x = self._norm(x, f"{name}final_layer_norm")
            yield x

    def _positions(self, x: torch.Tensor) -> torch.Tensor:
        """The convolutional position embedding of one utterance: (frames, width) -> the same."""
        name = "encoder.pos_conv_embed."
        y = x.T[None, :, None]  # (1, width, 1, frames)
        if self.config["conv_pos_batch_norm"]:
            norm = [self.weights[f"{name}batch_norm.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
            y = F.batch_norm(y, *norm)
        weight, bias = self.weights[f"{name}conv.weight"], self.weights[f"{name}conv.bias"]
        padding, groups = self.config["num_conv_pos_embeddings"] // 2, self.config["num_conv_pos_embedding_groups"]
        return self._convolve(y, weight, bias, padding=padding, groups=groups, gelu=True)[0, :, 0, : len(x)].T

    def _attention(self, x: torch.Tensor, lengths: list[int], name: str) -> torch.Tensor:
        heads = self.config["num_attention_heads"]
        qkv = self._linear(x, f"{name}qkv").view(len(x), 3, heads, -1)  # (total frames, 3, heads, head width)
        mixed = []
        for part in qkv.split(lengths):
            q, k, v = part.permute(1, 2, 0, 3)[:, None]  # (1, heads, frames, head width) each
            mixed.append(F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).flatten(1))
        return torch.cat(mixed)

    def _norm(self, x: torch.Tensor, name: str, eps: float | None = None) -> torch.Tensor:
        eps = eps or self.config["layer_norm_eps"]
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], eps)

    def _linear(self, x: torch.Tensor, name: str, gelu: bool = False, residual: torch.Tensor | None = None):
        """(frames, in) -> (frames, out), then GELU, or the residual added."""
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        if x.is_cuda:
            x = F.linear(x, weight, bias)
            x = F.gelu(x) if gelu else x
            return x if residual is None else x + residual
        if residual is not None:
            return torch.ops.mkldnn._linear_pointwise(x, residual, weight, bias, "add")
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu" if gelu else "none", [], "none")

    def _convolve(self, x, weight, bias, *, stride=1, padding=0, groups=1, gelu=False) -> torch.Tensor:
        """(1, in, 1, time) -> (1, out, 1, time), channels last, then GELU."""
        if x.is_cuda:
            x = F.conv2d(x, weight, bias, (1, stride), (0, padding), groups=groups)
            return F.gelu(x) if gelu else x
        x = x.contiguous(memory_format=torch.channels_last)
        window = [0, padding], [1, stride], [1, 1], groups
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *window, "gelu" if gelu else "none", [], "none")
