"""How encoders are told positions: by convolutions before the first layer; WavLM by a bias in every attention too."""

import math

import torch
import torch.nn.functional as F

from ser.encoders.products import Convolution

BIAS_NUMBERS = 1 << 24  # of a gated bias that are held at once, 64 MB


class ConvolutionalPositions:
    """What is added to the Transformer's input: (frames of one utterance, width) -> the same."""

    def __init__(self, weights: dict[str, torch.Tensor], config: dict, like: torch.Tensor):
        name, groups = "encoder.pos_conv_embed", config["num_conv_pos_embedding_groups"]
        self.batch_norm, self.stacked = None, "conv_pos_kernel_size" in config
        kernel = config["conv_pos_kernel_size" if self.stacked else "num_conv_pos_embeddings"]

        def convolution(name: str, weight: torch.Tensor) -> Convolution:
            return Convolution(weight, weights[f"{name}.bias"], like, padding=kernel // 2, groups=groups)

        if self.stacked:
            names = [f"{name}.layers.{i}.conv" for i in range(config["num_conv_pos_embeddings"])]
            self.convolutions = [convolution(each, weights[f"{each}.weight"]) for each in names]
            return
        if config.get("conv_pos_batch_norm", False):
            kinds = ("running_mean", "running_var", "weight", "bias")
            self.batch_norm = [weights[f"{name}.batch_norm.{kind}"].to(like.device) for kind in kinds]
            weight = weights[f"{name}.conv.weight"]
        else:  # weight norm: g · v / |v|, folded once
            g, v = (weights[f"{name}.conv.parametrizations.weight.original{i}"] for i in (0, 1))
            weight = g * v / v.norm(dim=(0, 1), keepdim=True)
        self.convolutions = [convolution(f"{name}.conv", weight)]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.batch_norm is None else F.batch_norm(x.float(), *self.batch_norm).to(x)
        for convolution in self.convolutions:
            x = convolution(x, gelu=not self.stacked)
            x = F.gelu(F.layer_norm(x, x.shape[-1:])) if self.stacked else x
        return x


def spread_bias(table: torch.Tensor, n_frames: int, furthest: int) -> torch.Tensor:
    """The bias of each distance, (heads, 2 · n_frames - 1), from that `n_frames` - 1 back to that far ahead.

    `table` is (buckets, heads): half of them for distances ahead; of each half, half are for single distances, and the
    rest grow by a constant factor up to `furthest` (Raffel et al. 2020, arXiv 1910.10683; WavLM, arXiv 2110.13900).
    """
    distance = torch.arange(1 - n_frames, n_frames, device=table.device)
    half = len(table) // 2
    single = half // 2
    away = distance.abs()
    grown = (away.clamp(min=1).float() / single).log() / math.log(furthest / single) * (half - single)
    bucket = torch.where(away < single, away, (single + grown).long().clamp(max=half - 1))
    return table[bucket + half * (distance > 0)].T


def gate(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, constant: torch.Tensor) -> torch.Tensor:
    """How much of the bias a frame gets in each head: (..., heads, head width) -> (..., heads).

    `weight`, (8, head width), makes two numbers of four sums each.
    """
    update, reset = F.linear(x, weight.unflatten(0, (2, 4)).sum(1), bias.view(2, 4).sum(1)).sigmoid().unbind(-1)
    return update * (reset * constant.flatten() - 1) + 2


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gates: torch.Tensor, bias: torch.Tensor, dropout: float = 0.0
) -> torch.Tensor:
    """Attention with a gated bias, in parts of the queries so that memory grows with the length, not its square.

    q, k, v are (batch, heads, frames, head width), `gates` (batch, heads, frames), `bias` as of `spread_bias`.
    """
    n = q.shape[2]
    # Row s is the bias of query n - 1 - s, as a view: queries go last first.
    rows = bias.unfold(1, n, 1)  # (heads, frames, frames)
    q, gates = q.flip(2), gates.flip(2)
    step, parts = max(1, BIAS_NUMBERS // (q.shape[0] * q.shape[1] * n)), []
    for first in range(0, n, step):
        some = slice(first, first + step)
        mask = gates[:, :, some, None] * rows[:, some]
        mask = mask.to(q) if q.is_cuda else mask  # there masks are of the numbers' own type
        parts.append(F.scaled_dot_product_attention(q[:, :, some], k, v, attn_mask=mask, dropout_p=dropout))
    return torch.cat(parts, 2).flip(2)


def attend_by_head(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gates: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Attention of one utterance, a head at a time: (heads, frames, head width) -> the same.

    `gates`, (heads, frames), and `bias` are WavLM's, as in `attend`; `bias` is None for the other families. This
    is for bfloat16 on a CPU, where torch's fused kernel reaches a quarter of the matrix product's speed: the products
    are bfloat16's, a softmax computes in float32 whatever the type of its numbers, and a head's scores, (frames,
    frames), stay in the cache.
    """
    mixed, q = torch.empty_like(q), q * q.shape[-1] ** -0.5
    if bias is not None:
        rows, q, gates = bias.unfold(1, q.shape[1], 1), q.flip(1), gates.flip(1)  # as in `attend`
    for i, (queries, keys, values) in enumerate(zip(q, k.contiguous(), v.contiguous(), strict=True)):
        scores = queries @ keys.T
        if bias is not None:
            scores = scores.float().addcmul_(gates[i, :, None], rows[i])
        torch.mm(scores.softmax(-1).to(values), values, out=mixed[i])
    return mixed if bias is None else mixed.flip(1)
