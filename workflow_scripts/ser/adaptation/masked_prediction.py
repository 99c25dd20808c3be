"""HuBERT's pre-training task, with or without speakers: which frames are masked, the model around it, and its loss.

The task is that of Hsu et al. 2021 (HuBERT, arXiv 2106.07447): spans of frames are replaced by a learned vector, and
the cluster of each masked frame is predicted from what is around it. Personalised adaptive pre-training (PAPT; Tran,
Yin, Soleymani, Interspeech 2023) adds a learned vector of the speaker while this is done.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from ser.encoders import packed

POSITIONS = ("last", "first", "prefix")


def draw_spans(n_frames: int, probability: float, length: int, rng: np.random.Generator) -> np.ndarray:
    """Which frames are masked, (n_frames,) bool: spans of `length`, each frame starting one with `probability`.

    As in HuBERT the number of spans is that share of the frames, rounded up or down at random, at least one; starts
    are drawn without replacement and spans may overlap (0.08 and 10 mask a good half of a long utterance).
    """
    length = min(length, n_frames)
    possible = n_frames - length + 1
    count = min(possible, max(1, int(probability * n_frames + rng.random())))
    starts = rng.choice(possible, count, replace=False)
    mask = np.zeros(n_frames, bool)
    mask[(starts[:, None] + np.arange(length)).ravel()] = True
    return mask


class MaskedPrediction(nn.Module):
    """An encoder that predicts the clusters of masked frames.

    Args:
        hubert: the encoder, trained in place
        clusters: number of pseudo-labels
        speakers: number of speakers with a vector of their own; 0 is TAPT
        position: where a speaker's vector is added: to the output of the last layer (`last`), to the input of the
            first (`first`), or as a token before it (`prefix`). With `last`, a pre-norm Transformer's (large, xlarge)
            final LayerNorm comes after it, as after every other output of that layer
        code_width: width in which predictions are compared with the clusters' vectors
        temperature: cosines are divided by it
        feature_penalty: weight in the loss of the mean square of what the convolutions put out (HuBERT's is 10)
    """

    def __init__(
        self,
        hubert: PreTrainedModel,
        clusters: int,
        speakers: int = 0,
        position: str = "last",
        code_width: int = 256,
        temperature: float = 0.1,
        feature_penalty: float = 0.0,
    ):
        super().__init__()
        width = hubert.config.hidden_size
        self.hubert, self.position, self.temperature = hubert, position, temperature
        self.feature_penalty = feature_penalty
        self.projection = nn.Linear(width, code_width)
        self.codes = nn.Parameter(torch.empty(clusters, code_width).uniform_())
        if speakers:
            # a table of zeros: at the start, all speakers are the one that TAPT knows
            self.table = nn.Parameter(torch.zeros(speakers, width))
            self.lift = nn.Linear(width, width, bias=False)

    def train(self, mode: bool = True) -> "MaskedPrediction":
        """Training, but for statistics that the encoder came with."""
        super().train(mode)
        packed.keep_statistics(self.hubert)
        return self

    def speaker_vectors(self, speakers: torch.Tensor) -> torch.Tensor:
        """Vectors of speakers, (n, width), from rows of the table, (n, neighbours): the mean of the neighbours'."""
        return self.lift(self.table[speakers].mean(1))

    def outputs(
        self, waves: torch.Tensor, mask: torch.Tensor | None = None, vectors: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The encoder's output, (batch, frames, width).

        Args:
            waves: (batch, samples) of one length, normalised as the encoder expects
            mask: (batch, frames) bool, frames that the encoder does not see
            vectors: (batch, width), the speakers'; None is TAPT
        """
        return self._transform(self.hubert.feature_extractor(waves), mask, vectors)

    def _transform(
        self, features: torch.Tensor, mask: torch.Tensor | None, vectors: torch.Tensor | None
    ) -> torch.Tensor:
        """The same from what the convolutions put out, (batch, channels, frames)."""
        hubert, encoder = self.hubert, self.hubert.encoder
        x = packed.project(hubert, features.transpose(1, 2))
        if mask is not None:
            x = torch.where(mask[..., None], hubert.masked_spec_embed.to(x.dtype), x)
        batch, frames, _ = x.shape
        x = packed.add_positions(hubert, x.flatten(0, 1), [frames] * batch).view_as(x)
        if vectors is not None and self.position == "first":
            x = x + vectors[:, None]
        if vectors is not None and self.position == "prefix":
            x = torch.cat([vectors[:, None].to(x.dtype), x], 1)
        lengths, stable, shape = [x.shape[1]] * batch, packed.has_pre_norm(hubert), x.shape
        biases, x = packed.find_biases(hubert, lengths), x.flatten(0, 1)
        for layer in encoder.layers:
            x = packed.run_layer(layer, x, lengths, stable, biases)
        x = x.view(shape)
        if vectors is not None and self.position == "prefix":
            x = x[:, 1:]
        if vectors is not None and self.position == "last":
            x = x + vectors[:, None]
        return encoder.layer_norm(x) if stable else x

    def forward(
        self, waves: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor, speakers: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean cross-entropy over the masked frames, with the feature penalty, and how many are predicted right.

        `labels` is (batch, frames) int64, `speakers` (batch, neighbours) rows of the table.
        """
        vectors = None if speakers is None else self.speaker_vectors(speakers)
        features = self.hubert.feature_extractor(waves)
        x = self.projection(self._transform(features, mask, vectors)[mask])  # (masked frames, code_width)
        with torch.autocast(x.device.type, enabled=False):  # a cosine in bfloat16 has steps of up to 0.004
            logits = F.normalize(x.float(), dim=-1) @ F.normalize(self.codes.float(), dim=-1).T / self.temperature
        labels = labels[mask]
        loss = F.cross_entropy(logits, labels)
        if self.feature_penalty:
            loss = loss + self.feature_penalty * features.float().square().mean()
        return loss, (logits.argmax(-1) == labels).sum()
