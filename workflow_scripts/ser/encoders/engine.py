"""The forward pass for embedding, of all `families`: every layer pooled over time, no utterance touching another.

The arithmetic is that of transformers' models in evaluation mode, which the tests hold it against. Utterances of a
batch are packed end to end, not padded: what works frame by frame runs on the packed frames, what mixes frames
(convolutions, attention) on each utterance.

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

from ser.audio.frames import FRAMES_A_SECOND, HOP, WINDOW
from ser.encoders.positions import ConvolutionalPositions, attend, attend_by_head, gate, spread_bias
from ser.encoders.precision import resolve_precision
from ser.encoders.products import Linear, Norm, unfold
from ser.files import DataError, check_digests, read_json
from ser.formats.encoder_families import is_grouped, is_pre_norm
from ser.formats.encoder_folder import DIGESTS, WEIGHTS

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


def choose(device: str, threads: int | None, precision: str) -> torch.Tensor:
    """An empty tensor, of the place and type that an encoder computes in.

    `device` is `auto` (CUDA where present, else CPU), `cpu` or `cuda`; `precision` is `auto`, `float32` or `bfloat16`:
    `auto` is float32 on a CPU, with `threads` threads, and on CUDA bfloat16 (float16 on cards without it).
    """
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise DataError(f"device: cuda, but torch {torch.__version__} finds no CUDA device; set cpu or auto")
    precision = resolve_precision(precision, device)
    if precision == "auto":
        precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return torch.empty(0, device=device, dtype=getattr(torch, precision))


class Encoder:
    """A frozen encoder from its folder (`config.json`, `preprocessor_config.json`, `model.safetensors`).

    Where `card.json` names a `position`, it is a personalised one (PAPT). `device`, `threads` and `precision` are as
    `choose` takes them. Sums over time, and the norms' and the softmax's own, are in float32 whatever the precision.
    """

    def __init__(self, folder: str | Path, device: str = "auto", threads: int | None = None, precision: str = "auto"):
        folder = Path(folder)
        self.like = choose(device, threads, precision)
        self.batch_seconds, self.chunk = BATCH_SECONDS[self.like.device.type], CHUNK[self.like.device.type]
        self.config = config = read_json(folder / "config.json")
        self.normalise = read_json(folder / "preprocessor_config.json")["do_normalize"]
        card = read_json(folder / "card.json") if (folder / "card.json").exists() else {}
        self.position = card.get("position")  # of a vector of the speaker
        self.stable, self.grouped = is_pre_norm(config), is_grouped(config)
        digests = {name: card[key] for name, key in DIGESTS.items() if key in card}
        check_digests((folder / name for name in DIGESTS), digests, folder / "card.json")
        self._build(load_file(folder / WEIGHTS))

    def _build(self, weights: dict[str, torch.Tensor]) -> None:
        config, eps = self.config, self.config["layer_norm_eps"]

        def pair(name: str):
            return weights[f"{name}.weight"], weights.get(f"{name}.bias")

        def joined(names: list[str]):
            return [torch.cat(parts) for parts in zip(*map(pair, names), strict=True)]

        front = [f"feature_extractor.conv_layers.{i}" for i in range(len(config["conv_dim"]))]
        # Convolutions of the front as products with the windows that they see, 1.15 times as fast as oneDNN's own.
        weights |= {f"{name}.conv.weight": weights[f"{name}.conv.weight"].transpose(1, 2).flatten(1) for name in front}
        weight, bias = pair(f"{front[0]}.conv")  # (conv_dim, kernel · in)
        if self.grouped:  # a bias before the GroupNorm has no effect
            self.first = [x.double().to(self.like.device) for x in (weight, *pair(f"{front[0]}.layer_norm"))]
        else:
            self.first = Linear(weight, bias, self.like)
            self.front_norms = [Norm(*pair(f"{name}.layer_norm"), self.like, 1e-5) for name in front]
        self.front = [Linear(*pair(f"{name}.conv"), self.like) for name in front[1:]]
        name = "feature_projection"
        self.features_norm = (
            Norm(*pair(f"{name}.layer_norm"), self.like, eps) if config.get("feat_proj_layer_norm", True) else None
        )
        self.projection = Linear(*pair(f"{name}.projection"), self.like)
        self.positions = ConvolutionalPositions(weights, config, self.like)
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
            if "num_buckets" in config:
                kinds = ("linear.weight", "linear.bias", "const")
                own = [weights[f"{name}.attention.gru_rel_pos_{kind}"] for kind in kinds]
                layer["gate"] = [tensor.to(self.like.device) for tensor in own]  # in float32, as the softmax
            if f"{name}.adapter_layer.norm.weight" in weights:
                own = f"{name}.adapter_layer"
                layer["adapter"] = Norm(*pair(f"{own}.norm"), self.like, 1e-5)
                layer |= {f"adapter_{i}": Linear(*pair(f"{own}.linear_{i}"), self.like) for i in (1, 2)}
            self.layers.append(layer)
        self.bias = None  # of relative positions, (buckets, heads)
        if "num_buckets" in config:
            self.bias = weights["encoder.layers.0.attention.rel_attn_embed.weight"].to(self.like.device)

    @torch.inference_mode()
    def embed(
        self,
        waves: list[np.ndarray],
        frames_layer: int | None = None,
        vectors: list[np.ndarray] | None = None,
        output: bool = False,
    ) -> list[Embedding]:
        """Embed utterances (float32 samples at 16 kHz, 25 ms at least); `frames_layer` 0 is the Transformer's input.

        `vectors`, (width,) each, are of the utterances' speakers: a personalised encoder needs them.

        Hidden states are those of transformers' `output_hidden_states`: with a pre-norm Transformer (large, xlarge) the
        last one is the last layer's output before the encoder's final LayerNorm. With `output` there is but one, the
        encoder's output: the last one, after that LayerNorm.
        """
        n_frames = [(len(wave) - WINDOW) // HOP + 1 for wave in waves]
        sums = np.zeros((len(waves), 1 if output else len(self.layers) + 1, self.config["hidden_size"]))
        frames = [[] for _ in waves]
        for numbers, states in self._run(waves, vectors, output):
            totals = []
            for layer, parts in enumerate(states, len(self.layers) if output else 0):  # (frames, width) each
                totals.append(torch.stack([part.sum(0, dtype=torch.float32) for part in parts]))
                if layer == frames_layer:
                    for i, part in zip(numbers, parts, strict=True):
                        frames[i].append(part.float().cpu().numpy())
            for i, total in zip(numbers, torch.stack(totals, 1).cpu().numpy(), strict=True):
                sums[i] += total  # (layers + 1, width)
        return [
            Embedding((total / n).astype(np.float32), np.concatenate(parts) if parts else None, n)
            for total, parts, n in zip(sums, frames, n_frames, strict=True)
        ]

    @torch.inference_mode()
    def hidden_states(self, wave: np.ndarray, output: bool = False) -> torch.Tensor:
        """All that `embed` averages over time of one utterance: (layers + 1, frames, width) float32, on the CPU."""
        windows = []
        for _, states in self._run([wave], None, output):
            layers = [[part.float().cpu() for part in parts] for parts in states]
            windows += [torch.stack(window) for window in zip(*layers, strict=True)]
        return torch.cat(windows, 1)

    @torch.inference_mode()
    def mix(self, wave: np.ndarray, shares: list[float] | None = None) -> torch.Tensor:
        """One utterance's hidden states, summed with their shares; its output without: (frames, width) float32."""
        windows = []
        for _, states in self._run([wave], None, shares is None):
            layers = zip(shares or [1.0], states, strict=True)
            windows.append(sum(share * torch.cat(parts).float() for share, parts in layers).cpu())
        return torch.cat(windows)

    def _run(
        self, waves: list[np.ndarray], vectors: list[np.ndarray] | None, output: bool
    ) -> Iterator[tuple[list[int], Iterator[list[torch.Tensor]]]]:
        """Batches: numbers of utterances, and of each hidden state in turn their frames, without those of context."""
        if min(map(len, waves)) < WINDOW:
            raise DataError(
                f"audio of less than {WINDOW} samples makes no frame: set audio.min_seconds to 0.025 or more"
            )
        if (vectors is None) != (self.position is None):
            raise DataError("a personalised encoder, and no other, needs a vector of each speaker")
        if vectors is not None:
            stacked = torch.from_numpy(np.stack(vectors).astype(np.float32)).to(self.like)  # (waves, width)
        fronts = [self._prepare(wave) for wave in waves]
        for spans in self._batches([(len(wave) - WINDOW) // HOP + 1 for wave in waves]):
            numbers = [i for i, *_ in spans]
            features = [self._features(*fronts[i], start, end) for i, start, end, _ in spans]
            own = None if vectors is None else stacked[numbers]
            yield numbers, self._split(features, own, [inner for *_, inner in spans], output)

    def _split(
        self, features: list[torch.Tensor], vectors: torch.Tensor | None, inner: list[slice], output: bool
    ) -> Iterator[list[torch.Tensor]]:
        lengths = list(map(len, features))
        for layer, state in enumerate(self._hidden_states(torch.cat(features), lengths, vectors)):
            if output and layer < len(self.layers):
                continue
            state = self.norm(state) if output and self.stable else state
            yield [part[some] for part, some in zip(state.split(lengths), inner, strict=True)]

    def _batches(self, n_frames: list[int]) -> Iterator[list[tuple[int, int, int, slice]]]:
        """Groups of (utterance, start and stop of the frames to compute, the slice of these that counts)."""
        batch, total = [], 0
        for i, n in enumerate(n_frames):
            inner, context = (n, 0) if n <= WHOLE else (INNER, CONTEXT)
            for first in range(0, n, inner):
                end = min(n, first + inner)
                start, stop = max(0, first - context), min(n, end + context)
                batch.append((i, start, stop, slice(first - start, end - start)))
                total += stop - start
                if total >= self.batch_seconds * FRAMES_A_SECOND:
                    yield batch
                    batch, total = [], 0
        if batch:
            yield batch

    def _prepare(self, wave: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Linear]:
        """An utterance's samples on the device, their mean and scale, and its first convolution.

        HuBERT-base's first convolution takes in the GroupNorm that follows, which normalises each channel over the
        utterance's time: a channel w · x has mean w · E[x] and variance w · Cov(x) · w over the windows x of samples,
        so that a small covariance matrix says what a pass over all of the convolution's output would.
        """
        wave = torch.from_numpy(np.ascontiguousarray(wave, np.float32))
        if self.like.is_cuda:
            wave = wave.pin_memory().to(self.like.device, non_blocking=True)
        mean, scale = wave.new_zeros(()), wave.new_ones(())
        if self.normalise:
            variance, mean = torch.var_mean(wave, correction=0)
            scale = (variance + 1e-7).rsqrt()
        if not self.grouped:
            return wave, mean, scale, self.first
        weight, gamma, beta = self.first
        (_, kernel), stride = weight.shape, self.config["conv_stride"][0]
        n, total, squares = 0, weight.new_zeros(kernel), weight.new_zeros(kernel, kernel)
        for part in wave.unfold(0, kernel, stride).split(1 << 18):  # (windows, kernel); in parts to bound the memory
            part = (part.double() - mean) * scale
            n, total, squares = n + len(part), total + part.sum(0), squares + part.T @ part
        average = total / n
        covariance = squares / n - average[:, None] * average
        gamma = gamma / (((weight @ covariance) * weight).sum(1).clamp(min=0) + 1e-5).sqrt()
        return wave, mean, scale, Linear(weight * gamma[:, None], beta - weight @ average * gamma, self.like)

    def _features(self, wave, mean, scale, first: Linear, start: int, end: int) -> torch.Tensor:
        """The convolutional front: frames `start` to `end` of an utterance, (frames, conv_dim)."""
        chunks = []
        for begin in range(start, end, self.chunk):
            x = wave[begin * HOP : (min(begin + self.chunk, end) - 1) * HOP + WINDOW]
            x = ((x - mean) * scale).to(self.like)[:, None]
            for i, layer in enumerate([first, *self.front]):
                windows = unfold(x, self.config["conv_kernel"][i], self.config["conv_stride"][i])
                x = layer(windows, gelu=self.grouped)  # (time, conv_dim)
                if not self.grouped:
                    x = F.gelu(self.front_norms[i](x))
            chunks.append(x)
        return torch.cat(chunks)

    def _hidden_states(
        self, x: torch.Tensor, lengths: list[int], vectors: torch.Tensor | None
    ) -> Iterator[torch.Tensor]:
        """Packed features (all frames, conv_dim) -> each hidden state (all frames, width).

        `vectors`, (utterances, width), are of the speakers; where they go is as in `masked_prediction`.
        """
        repeats = torch.tensor(lengths, device=x.device)
        spread = None if vectors is None else vectors.repeat_interleave(repeats, 0)
        x = self.projection(self.features_norm(x) if self.features_norm else x)
        x = x + torch.cat([self.positions(part) for part in x.split(lengths)])
        x = x if self.stable else self.norm(x)
        if self.position == "first":
            x = x + spread
        frames = slice(None)
        if self.position == "prefix":
            x = torch.cat([row for own in zip(vectors[:, None], x.split(lengths), strict=True) for row in own])
            lengths = [length + 1 for length in lengths]
            firsts = torch.tensor(lengths).cumsum(0) - torch.tensor(lengths)
            frames = torch.ones(len(x), dtype=torch.bool)
            frames[firsts] = False
        biases = [
            None if self.bias is None else spread_bias(self.bias, length, self.config["max_bucket_distance"])
            for length in lengths
        ]
        yield x[frames]
        for number, layer in enumerate(self.layers, 1):
            x = layer["mixed"](self._attention(layer, layer["norm"](x) if self.stable else x, lengths, biases)) + x
            x = x if self.stable else layer["norm"](x)
            y = layer["wide"](layer["final_norm"](x) if self.stable else x, gelu=True)
            x = layer["narrow"](y) + x
            x = x if self.stable else layer["final_norm"](x)
            if "adapter" in layer:
                x = x + layer["adapter_2"](F.relu(layer["adapter_1"](layer["adapter"](x))))
            yield x[frames] + spread if self.position == "last" and number == len(self.layers) else x[frames]

    def _attention(self, layer: dict, x: torch.Tensor, lengths: list[int], biases: list) -> torch.Tensor:
        """Self-attention within each utterance: (all frames, width) -> the same."""
        heads = self.config["num_attention_heads"]
        qkv = layer["qkv"](x).view(len(x), 3, heads, -1)
        gates = gate(x.float().view(len(x), heads, -1), *layer["gate"]) if "gate" in layer else x[:, :0]
        by_head = x.dtype == torch.bfloat16 and not x.is_cuda
        mixed = []
        for part, own, bias in zip(qkv.split(lengths), gates.split(lengths), biases, strict=True):
            q, k, v = part.permute(1, 2, 0, 3)[:, None]  # (1, heads, frames, head width) each
            if by_head:
                y = attend_by_head(q[0], k[0], v[0], own.T, bias)[None]
            elif bias is None:
                y = F.scaled_dot_product_attention(q, k, v)
            else:
                y = attend(q, k, v, own.T[None], bias)
            mixed.append(y[0].transpose(0, 1).flatten(1))
        return torch.cat(mixed)
