"""What of an encoder is trained: all of it, its upper layers, or low-rank adapters in every layer.

The convolutional front stays as it is with every method. LoRA is that of Hu et al. 2021 (arXiv 2106.09685): beside a
frozen product W x stands B (A x) of a small rank; B begins as 0, and in the end W + B A is one matrix again.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from ser.encoders.packed import has_pre_norm

ADAPTED = ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense")
SCALE = 2.0  # of an adapter's output: alpha / rank, as is usual


class LowRank(nn.Module):
    """A linear map that stays as it is, and one of low rank beside it that is trained."""

    def __init__(self, base: nn.Linear, rank: int):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + SCALE * (x @ self.down.T) @ self.up.T

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        self.base.weight += SCALE * self.up @ self.down
        return self.base


def apply_method(hubert: PreTrainedModel, settings: dict) -> int | None:
    """Freeze what is not trained, and put adapters in; the first layer that anything trained stands in or after.

    None means that something before the first layer is trained too. Adapters are drawn from torch's generator.
    """
    hubert.requires_grad_(False)
    layers = hubert.encoder.layers
    if settings["method"] == "lora":
        for layer in layers:
            for module in (layer.attention, layer.feed_forward):
                for name, child in list(module.named_children()):
                    if name in ADAPTED:
                        setattr(module, name, LowRank(child, settings["rank"]))
        return 0
    if settings["method"] == "top":
        first = len(layers) - settings["layers"]
        layers[first:].requires_grad_(True)
        if has_pre_norm(hubert):  # there it comes after the last layer
            hubert.encoder.layer_norm.requires_grad_(True)
        return first
    hubert.encoder.requires_grad_(True)
    hubert.feature_projection.requires_grad_(True)
    return None


def merge_adapters(hubert: PreTrainedModel) -> PreTrainedModel:
    """Fold adapters into the matrices beside them, in place: an encoder like any other."""
    for layer in hubert.encoder.layers:
        for module in (layer.attention, layer.feed_forward):
            for name, child in list(module.named_children()):
                if isinstance(child, LowRank):
                    setattr(module, name, child.merge())
    return hubert
