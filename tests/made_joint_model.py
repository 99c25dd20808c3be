"""A small encoder and a stand-in for a head, trained together."""

import numpy as np
import torch
from torch import nn
from transformers import HubertConfig, HubertModel

from ser.finetuning import gradient_caching, loss
from ser.finetuning.joint_model import JointModel

DROPOUTS = ["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"]
WIDTH, LAYERS = 16, 3
SETTINGS = {
    **{
        "method": "whole",
        "epochs": 2,
        "patience": 3,
        "batch_size": 6,
        "learning_rate": 3e-3,
        "head_learning_rate": 1e-2,
    },
    **{"weight_decay": 1e-4, "warmup": 0.0, "clip": 1, "crop_seconds": 1.0, "micro_batch_seconds": 1.5},
    **{"gradient_checkpointing": False, "precision": "float32", "threads": 1, "checkpoint_steps": 2},
    **{"seed": 1, "accumulate": 1},
}
METHODS = {"whole": {"method": "whole"}, "top": {"method": "top", "layers": 1}, "lora": {"method": "lora", "rank": 2}}
FAMILIES = {
    "base": {},
    "large": {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
    "batch_norm": {"conv_pos_batch_norm": True},
}


def make_hubert(family="base", dropout=0.0, seed=0) -> HubertModel:
    torch.manual_seed(seed)
    config = HubertConfig(
        conv_dim=[8] * 7,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **dict.fromkeys(DROPOUTS, dropout),
        **FAMILIES[family],
    )
    return HubertModel(config).eval()


class Head(nn.Module):
    """A stand-in for Keras' head: what it reads, averaged, then a hidden layer with the batch's own statistics."""

    def __init__(self, targets=2, dropout=0.0, norm=True):
        super().__init__()
        self.hidden, self.norm = nn.Linear(WIDTH, 8), nn.BatchNorm1d(8) if norm else nn.Identity()
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(8, targets)

    def forward(self, item):
        x = item["features"]
        if "n_frames" in item:
            mask = torch.arange(x.shape[1], device=x.device)[None] < item["n_frames"]
            x = (x * mask[..., None]).sum(1) / item["n_frames"]
        elif x.dim() == 3:
            x = x.mean(1)
        if "others" in item:
            others = item["others"] if item["others"].dim() == 3 else item["others"].mean(2)
            x = x + (item["known"][..., None] * others * others.sum(-1, keepdim=True).sigmoid()).sum(1)
        if "speaker" in item:
            x = x + item["speaker"].mean(1, keepdim=True)
        return self.out(self.norm(self.dropout(torch.relu(self.hidden(x))))) + 4


def make_model(family="base", method="whole", reads="last", dropout=0.0, **options) -> JointModel:
    hubert = make_hubert(family, dropout)
    torch.manual_seed(1)
    settings = SETTINGS | METHODS[method]
    return JointModel(hubert, Head(dropout=dropout, norm=reads != "frames"), settings, reads, **options)


def make_waves(n=5, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(int(rng.integers(5000, 12000))).astype(np.float32) for _ in range(n)]


def prepare(model, waves, vectors=None):
    vectors = [None] * len(waves) if vectors is None else list(map(torch.from_numpy, vectors))
    device = next(model.parameters()).device
    waves = [torch.from_numpy(wave).to(device) for wave in waves]
    return [model.prepare(wave, vector) for wave, vector in zip(waves, vectors, strict=True)]


def learn(model, waves, labels, groups, seed=3):
    """The gradient of 1 - CCC over all waves, computed in `groups`."""
    model.zero_grad()
    model.train()
    parts = prepare(model, waves)
    order = [i for group in groups for i in group]
    weights = torch.ones(len(order), device=labels.device)

    def encode(group):
        item = model.features(group)
        return model.head(item) if model.reads == "frames" else item["features"]

    def finish(encoded):
        predictions = encoded if model.reads == "frames" else model.head({"features": encoded})
        return loss.ccc_loss(labels[order], predictions, weights)

    gradient_caching.backpropagate(encode, finish, [[parts[i] for i in group] for group in groups], seed)
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
