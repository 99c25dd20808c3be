"""Products, convolutions and norms of an encoder's forward pass: by oneDNN on a CPU, by torch elsewhere."""

import torch
import torch.nn.functional as F


def uses_onednn(like: torch.Tensor) -> bool:
    """Whether numbers of that type and place go through oneDNN; on processors without bfloat16 it has none."""
    known = like.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return like.device.type == "cpu" and torch.backends.mkldnn.is_available() and known


class Linear:
    """(frames, in) -> (frames, out).

    On a CPU by oneDNN with its weight packed once and GELU fused: torch hands float32 products to MKL, which on AMD
    processors reaches half of oneDNN's speed (benchmarks/embed.py shows both).
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, like: torch.Tensor):
        self.weight, self.bias = weight.to(like), None if bias is None else bias.to(like)
        self.onednn = uses_onednn(like)
        if self.onednn:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def __call__(self, x: torch.Tensor, gelu: bool = False) -> torch.Tensor:
        if self.onednn:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *_activation(gelu))
        x = F.linear(x, self.weight, self.bias)
        return F.gelu(x) if gelu else x


class Convolution:
    """Over time, padded, (time, in) -> (time, out): channels last in memory; on a CPU by oneDNN, as `Linear`.

    What a kernel is built for is kept by shape, and building one takes longer than running it: lengths are rounded up
    to a multiple of `STEP`, by zeros as of the padding, so that few shapes are met.
    """

    STEP = 64

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, like: torch.Tensor, padding: int, groups: int):
        # (out, in / groups, 1, kernel): 2-D over (1, time), because torch knows channels-last for 2-D
        self.weight = weight[:, :, None].contiguous(memory_format=torch.channels_last).to(like)
        self.bias = None if bias is None else bias.to(like)
        self.padding, self.groups = [0, padding], groups
        self.onednn = uses_onednn(like)
        if self.onednn:
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, [1, 1], [1, 1], groups, [1, weight.shape[1] * groups, 1, 300]
            )

    def __call__(self, x: torch.Tensor, gelu: bool = False) -> torch.Tensor:
        length = len(x)
        x = F.pad(x, (0, 0, 0, -length % self.STEP))
        x = x.T[None, :, None]  # (1, in, 1, time)
        if self.onednn:
            window = self.padding, [1, 1], [1, 1], self.groups
            x = torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *window, *_activation(gelu))
        else:
            x = F.conv2d(x, self.weight, self.bias, padding=self.padding, groups=self.groups)
            x = F.gelu(x) if gelu else x
        return x[0, :, 0].T[:length]  # an even kernel makes a frame too many


class Norm:
    """LayerNorm over the last axis; its mean and variance are in float32 whatever the type of its numbers."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, like: torch.Tensor, eps: float):
        self.weight, self.bias, self.eps = weight.to(like), bias.to(like), eps

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


def _activation(gelu: bool) -> tuple:
    """oneDNN's arguments for what follows a product: exact GELU or nothing."""
    return ("gelu", [], "none") if gelu else ("none", [], None)


def unfold(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """(time, in) -> (time', kernel · in): what each step of a convolution over time sees, as a view."""
    steps, width = (len(x) - kernel) // stride + 1, x.shape[1]
    return x.as_strided((steps, kernel * width), (stride * width, 1))
