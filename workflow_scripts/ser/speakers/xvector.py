"""Models for speaker verification as transformers has them (`AutoModelForAudioXVector`), run by the encoders' engine.

After an encoder, of which one layer or a learned mixture of all is read, come a projection, time-delay layers (Snyder
et al., "X-vectors: robust DNN embeddings for speaker recognition", ICASSP 2018), mean and standard deviation over time,
and a last layer: the vector that transformers calls `embeddings`.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ser.audio.frames import HOP, WINDOW
from ser.encoders.engine import Encoder
from ser.files import check_digests, read_json

HEAD, DIGEST = "xvector.safetensors", "xvector_sha256"


class XVector:
    """Vectors of utterances by a speaker model in the workflow's form, one a call: none depends on others."""

    def __init__(self, folder: str | Path, device: str = "cpu"):
        folder = Path(folder)
        card = read_json(folder / "card.json")
        check_digests([folder / HEAD], {HEAD: card[DIGEST]}, folder / "card.json")
        self.encoder, self.shape, self.head = Encoder(folder, device, 1), card["xvector"], load_file(folder / HEAD)
        self.device = self.encoder.like.device.type
        pairs = zip(self.shape["tdnn_kernel"], self.shape["tdnn_dilation"], strict=True)
        self.seen = 1 + sum((kernel - 1) * dilation for kernel, dilation in pairs)  # frames that a last one has seen

    @torch.inference_mode()
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The vector of an utterance (16 kHz), (W,) float32; NaN where it is too short for two frames to average."""
        width = self.shape["xvector_output_dim"]
        if (len(samples) - WINDOW) // HOP + 1 < self.seen + 1:
            return np.full(width, np.nan, np.float32)
        head, shares = self.head, None
        if self.shape["use_weighted_layer_sum"]:
            shares = head["layer_weights"].softmax(-1).tolist()
        x = F.linear(self.encoder.mix(samples, shares), head["projector.weight"], head["projector.bias"])
        x = x.T[None]  # (1, dim, frames)
        for i, kernel in enumerate(self.shape["tdnn_kernel"]):
            weight = head[f"tdnn.{i}.kernel.weight"].unflatten(1, (kernel, -1)).transpose(1, 2)  # (out, in, kernel)
            dilation = self.shape["tdnn_dilation"][i]
            x = F.relu(F.conv1d(x, weight, head[f"tdnn.{i}.kernel.bias"], dilation=dilation))
        pooled = torch.cat([x[0].mean(-1), x[0].std(-1)])
        return F.linear(pooled, head["feature_extractor.weight"], head["feature_extractor.bias"]).numpy()
