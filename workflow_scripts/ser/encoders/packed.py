"""Encoders with gradients on utterances that are packed end to end: no padding is worked on, and none is averaged.

The arithmetic is that of transformers' models and of `engine`, whose features a trained head reads; the modules are
the models' own, so that whatever replaces one of them (an adapter) is trained. Nothing is masked and no layer is left
out by chance (`apply_spec_augment` and `layerdrop` of the model's config have no part here).
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ser.encoders.positions import attend, gate, spread_bias

Biases = dict[int, torch.Tensor]  # WavLM's bias of relative positions for each length; empty for other families


def run_front(model: PreTrainedModel, wave: torch.Tensor) -> torch.Tensor:
    """The convolutional front on one utterance, so that its normalisation over time sees that alone.

    (samples,) -> (frames, conv_dim)
    """
    return model.feature_extractor(wave[None])[0].T


def project(model: PreTrainedModel, features: torch.Tensor) -> torch.Tensor:
    """(..., conv_dim) -> (..., width): most families hand on what was projected as well."""
    x = model.feature_projection(features)
    return x[0] if isinstance(x, tuple) else x


def enter(model: PreTrainedModel, features: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """From the front to the input of the first layer: (all frames, conv_dim) -> (all frames, width)."""
    return add_positions(model, project(model, features), lengths)


def add_positions(model: PreTrainedModel, x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """(all frames, width) -> the same, as the first layer takes it."""
    encoder = model.encoder
    if len(set(lengths)) == 1:
        y = encoder.pos_conv_embed(x.view(len(lengths), lengths[0], -1)).flatten(0, 1)
    else:
        y = torch.cat([encoder.pos_conv_embed(part[None])[0] for part in x.split(lengths)])
    x = x + y
    return encoder.dropout(x if has_pre_norm(model) else encoder.layer_norm(x))


def keep_statistics(model: PreTrainedModel) -> None:
    """Hold the statistics of a HuBERT's BatchNorm (`conv_pos_batch_norm`), which those of one utterance would replace.

    Its weight and bias can be trained all the same. Call it after `train`.
    """
    if (norm := getattr(model.encoder.pos_conv_embed, "batch_norm", None)) is not None:
        norm.eval()


def has_pre_norm(model: PreTrainedModel) -> bool:
    """Whether the final LayerNorm of the encoder comes after the last layer, and each layer's before its parts."""
    return getattr(model.config, "do_stable_layer_norm", False)


def find_biases(model: PreTrainedModel, lengths: list[int]) -> Biases:
    """What every attention is told of relative positions: made of the first layer's table, whichever layers run."""
    table = getattr(model.encoder.layers[0].attention, "rel_attn_embed", None)
    if table is None:
        return {}
    furthest = model.config.max_bucket_distance
    return {length: spread_bias(table.weight, length, furthest) for length in sorted(set(lengths))}


def run_layer(
    layer: torch.nn.Module, x: torch.Tensor, lengths: list[int], stable: bool, biases: Biases
) -> torch.Tensor:
    """One Transformer layer, pre-norm where `stable`: (all frames, width) -> the same."""
    y = layer.dropout(_attend(layer.attention, layer.layer_norm(x) if stable else x, lengths, biases))
    x = x + y if stable else layer.layer_norm(x + y)
    if stable:
        x = x + layer.feed_forward(layer.final_layer_norm(x))
        adapter = getattr(layer, "adapter_layer", None)  # of MMS
        return x if adapter is None else x + adapter(x)
    return layer.final_layer_norm(x + layer.feed_forward(x))


def run_checkpointed(
    layer: torch.nn.Module, x: torch.Tensor, lengths: list[int], stable: bool, biases: Biases
) -> torch.Tensor:
    """The same, with the layer's inner results computed again for the gradient instead of held."""
    return checkpoint(run_layer, layer, x, lengths, stable, biases, use_reentrant=False)


def average(x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """The mean over each utterance's own frames: (all frames, width) -> (utterances, width)."""
    return torch.stack([part.mean(0) for part in x.split(lengths)])


def _attend(attention: torch.nn.Module, x: torch.Tensor, lengths: list[int], biases: Biases) -> torch.Tensor:
    """Self-attention within each utterance: (all frames, width) -> the same; those of one length all at once."""
    dropout = attention.dropout if attention.training else 0.0
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    parts = [p(x).view(len(x), attention.num_heads, -1) for p in projections]  # (all frames, heads, head width)
    if biases:
        linear = attention.gru_rel_pos_linear
        heads = x.view(len(x), attention.num_heads, -1)
        parts.append(gate(heads, linear.weight, linear.bias, attention.gru_rel_pos_const))  # (all frames, heads)
    if len(set(lengths)) == 1:
        batches = [[part.unflatten(0, (len(lengths), -1)) for part in parts]]
    else:
        batches = zip(*([own[None] for own in part.split(lengths)] for part in parts), strict=True)
    mixed = []
    for q, k, v, *gates in batches:
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (batch, heads, frames, head width)
        if gates:
            y = attend(q, k, v, gates[0].transpose(1, 2), biases[q.shape[2]], dropout)
        else:
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        mixed.append(y.transpose(1, 2).flatten(2).flatten(0, 1))
    return attention.out_proj(torch.cat(mixed))
