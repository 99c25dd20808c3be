"""HuBERT with gradients on utterances that are packed end to end: no padding is worked on, and none is averaged.

The arithmetic is that of `transformers.HubertModel` and of `encoders.hubert`, whose features a trained head reads; the
modules are HubertModel's own, so that whatever replaces one of them (an adapter) is trained. Nothing is masked and no
layer is left out by chance (`apply_spec_augment` and `layerdrop` of the model's config have no part here).
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from transformers import HubertModel


def run_front(hubert: HubertModel, wave: torch.Tensor) -> torch.Tensor:
    """The convolutional front on one utterance, so that its normalisation over time sees that alone.

    (samples,) -> (frames, conv_dim)
    """
    return hubert.feature_extractor(wave[None])[0].T


def enter(hubert: HubertModel, features: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """From the front to the input of the first layer: (all frames, conv_dim) -> (all frames, width)."""
    encoder = hubert.encoder
    x = hubert.feature_projection(features)
    x = x + torch.cat([encoder.pos_conv_embed(part[None])[0] for part in x.split(lengths)])
    return encoder.dropout(x if hubert.config.do_stable_layer_norm else encoder.layer_norm(x))


def run_layer(layer: torch.nn.Module, x: torch.Tensor, lengths: list[int], stable: bool) -> torch.Tensor:
    """One Transformer layer, pre-norm where `stable`: (all frames, width) -> the same."""
    y = layer.dropout(_attend(layer.attention, layer.layer_norm(x) if stable else x, lengths))
    x = x + y if stable else layer.layer_norm(x + y)
    if stable:
        return x + layer.feed_forward(layer.final_layer_norm(x))
    return layer.final_layer_norm(x + layer.feed_forward(x))


def run_checkpointed(layer: torch.nn.Module, x: torch.Tensor, lengths: list[int], stable: bool) -> torch.Tensor:
    """The same, with the layer's inner results computed again for the gradient instead of held."""
    return checkpoint(run_layer, layer, x, lengths, stable, use_reentrant=False)


def average(x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """The mean over each utterance's own frames: (all frames, width) -> (utterances, width)."""
    return torch.stack([part.mean(0) for part in x.split(lengths)])


def _attend(attention: torch.nn.Module, x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Self-attention within each utterance."""
    dropout = attention.dropout if attention.training else 0.0
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    # (all frames, width) -> (heads, all frames, head width)
    parts = (p(x).view(len(x), attention.num_heads, -1).transpose(0, 1).split(lengths, 1) for p in projections)
    mixed = [
        F.scaled_dot_product_attention(q[None], k[None], v[None], dropout_p=dropout)[0].transpose(0, 1).flatten(1)
        for q, k, v in zip(*parts, strict=True)
    ]
    return attention.out_proj(torch.cat(mixed))
