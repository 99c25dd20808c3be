"""The head of an ablation, Keras' own, as a part of a torch model. Import `ser.lean_torch_keras` before this."""

import keras
import numpy as np
import torch

from ser.config.ablation import Ablation
from ser.heads.model import build_head


class KerasHead(torch.nn.Module):
    """A head as `JointModel` takes it; `keras` is the model that is saved."""

    def __init__(
        self, ablation: Ablation, seed: int, n_layers: int, width: int, labels: np.ndarray, name: str, speaker: int
    ):
        super().__init__()
        keras.utils.set_random_seed(seed)
        sd = labels.std(axis=0)
        self.keras = build_head(
            ablation,
            n_layers=n_layers,
            width=width,
            speaker_width=speaker,
            label_mean=labels.mean(axis=0).tolist(),
            label_sd=np.where(sd > 0, sd, 1.0).tolist(),
            name=name,
        )

    def forward(self, item: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.keras(item, training=self.training)["labels"]
