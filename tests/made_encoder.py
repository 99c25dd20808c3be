"""A small encoder as it lies on the hub, and what it computes."""

import json

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from ser.encoders import pretrained
from ser.files import DataError

SHAPE = {
    "conv_dim": [16] * 7,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def make(folder, model_class=HubertModel, **config):
    torch.manual_seed(0)
    model = model_class(HubertConfig(**SHAPE | config)).eval()
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return model


def edit(path, **values):
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))


def outputs(model):
    wave = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 4000)).astype(np.float32))
    with torch.no_grad():
        return torch.stack(model.eval()(wave, output_hidden_states=True).hidden_states)


def refuse(base, tmp_path, match):
    with pytest.raises(DataError, match=match):
        pretrained.prepare(str(base), None, tmp_path / "out")
    assert not (tmp_path / "out/card.json").exists()
