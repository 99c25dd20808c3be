"""What fine-tuning knows of a speaker's other utterances while the encoder changes: the features that it made last.

Statistics of a speaker as the encoder is now would take a forward pass over all of its utterances in each step. A
memory bank (Wu, Xiong, Yu and Lin, CVPR 2018, arXiv 1805.01978) keeps what the last pass over each utterance gave: as
each epoch has an order of its own, two epochs ago at most.
"""

import numpy as np
import torch

from ser.config.ablation import Ablation
from ser.heads.companions import CONSTANT, draw_others, fix_others, list_companions


def make_banks(ablation: Ablation, clips: dict[str, list], config, seed: int) -> dict[str, "MemoryBank"]:
    """Of each split's utterances, for an encoder of a `config`; none for a head that knows nothing of others."""
    if not (ablation.normalise or ablation.attended):
        return {}
    layers = (config.num_hidden_layers + 1,) if ablation.layer == "weighted" else ()
    shape = *layers, config.hidden_size
    return {
        split: MemoryBank(ablation, [c.utterance_id for c in own], [c.speaker_id for c in own], shape, seed)
        for split, own in clips.items()
    }


class MemoryBank(torch.nn.Module):
    """The last known features of each utterance of a split, `features`, (N, W) or (N, L, W): constants, no gradient.

    What it makes of them is what `heads.companions.Companions` makes of features that stay.

    Args:
        shape: that of one utterance's features
        seed: of the others that an utterance looks at in each epoch
    """

    def __init__(self, ablation: Ablation, utterance_ids: list[str], speakers: list[str], shape: tuple, seed: int):
        super().__init__()
        self.ablation, self.utterance_ids, self.speakers, self.seed = ablation, utterance_ids, speakers, seed
        self.register_buffer("features", torch.zeros(len(speakers), *shape))
        self.companions = list_companions(utterance_ids, speakers, ablation) if ablation.normalise else []
        self._others: tuple = None, None, None  # an epoch and who looks at whom in it

    def put(self, rows: torch.Tensor, features: torch.Tensor) -> None:
        """Note the features, (B, ...), of some utterances."""
        self.features[rows] = features.detach()

    def look(self, rows: torch.Tensor, features: torch.Tensor, epoch: int | None = None) -> dict[str, torch.Tensor]:
        """What a head takes of utterances, (B,) of their rows and (B, ...): `features`, and `others` with `known`.

        The others are drawn anew in each `epoch`; without one they are those of prediction.
        """
        item = {"features": self.normalise(rows, features)}
        if self.ablation.attended:
            others, known = (x[rows.cpu()] for x in self._choose(epoch))
            flat = others.flatten().to(rows.device)
            item["others"] = self.normalise(flat, self.features[flat]).unflatten(0, others.shape)
            item["known"] = known.to(rows.device)
        return item

    def normalise(self, rows: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Features, (B, ...), of utterances less the mean (and divided by the spread) of those that each knows."""
        if not self.ablation.normalise:
            return features
        known = [self.companions[row] for row in rows.tolist()]
        measured = {own: self._measure(own) for own in set(known)}
        mean, spread = (torch.stack(x) for x in zip(*(measured[own] for own in known), strict=True))
        return (features - mean) / spread if self.ablation.normalise == "speaker" else features - mean

    def _measure(self, rows: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and spread of utterances, float32; a feature without spread has 1."""
        x = self.features[list(rows)].double()
        spread = x.std(0, correction=0)
        return x.mean(0).float(), torch.where(spread > CONSTANT, spread, 1).float()

    def _choose(self, epoch: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of the K utterances that each one looks at, (N, K), and which of them there are, (N, K)."""
        if self._others[0] is None or self._others[0] != epoch:
            chosen = self.utterance_ids, self.speakers, self.ablation.attended, bool(self.ablation.permuted)
            rng = np.random.default_rng([self.seed, epoch or 0, 1])
            found = fix_others(*chosen) if epoch is None else draw_others(*chosen, rng)
            self._others = epoch, *map(torch.from_numpy, found)
        return self._others[1:]
