"""An encoder and a head as one model: what is trained of both, and what is computed but once."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from ser.encoders import packed
from ser.finetuning.methods import apply_method


@dataclass
class Part:
    """An utterance as far as nothing that is trained has touched it."""

    x: torch.Tensor  # (frames, conv_dim) of the front, or (frames, width) before the first layer that is trained
    n_frames: int
    pooled: torch.Tensor | None = None  # (states before that layer, width), their means over time
    vector: torch.Tensor | None = None  # (width,) of its speaker, for a personalised encoder; or rows of the table
    speaker: torch.Tensor | None = None  # (13,) averaged MFCCs, for a head with speaker information

    def to(self, device) -> "Part":
        """The same on another device."""
        return Part(*(x.to(device) if isinstance(x, torch.Tensor) else x for x in vars(self).values()))


class JointModel(nn.Module):
    """An encoder, trained in place by a method (see `methods.apply_method`), and a head on its features.

    Args:
        settings: `method` with `rank` or `layers`, and `gradient_checkpointing`
        head: from a dictionary of `features`, with `speaker` and `n_frames` where it uses them, to labels (B, targets)
        reads: what the head reads: the last hidden state averaged over time (`last`), as `frames`, or every hidden
            state averaged (`layers`). The last one alone is that after a pre-norm encoder's final LayerNorm
        position: of the vector of a speaker (see `adaptation.masked_prediction`), None for an encoder without
        max_frames: utterances of more are thinned evenly for a head that reads frames
        table: speakers' vectors that are trained, (speakers, width): an utterance then has rows of it, to be averaged
    """

    def __init__(
        self,
        hubert: PreTrainedModel,
        head: nn.Module,
        settings: dict,
        reads: str = "last",
        position: str | None = None,
        max_frames: int = 750,
        table: torch.Tensor | None = None,
    ):
        super().__init__()
        self.first = apply_method(hubert, settings)
        self.hubert, self.head, self.reads, self.position = hubert, head, reads, position
        self.table = None if table is None else nn.Parameter(table)
        self.max_frames, self.stable = max_frames, packed.has_pre_norm(hubert)
        if self.stable and reads == "layers":  # nothing that is read comes after it
            hubert.encoder.layer_norm.requires_grad_(False)
        self.run_layer = packed.run_checkpointed if settings["gradient_checkpointing"] else packed.run_layer

    def train(self, mode: bool = True) -> "JointModel":
        """What is not trained has no dropout either: it gives the same each time, and is computed once."""
        super().train(mode)
        packed.keep_statistics(self.hubert)
        if self.first is not None:
            for module in (self.hubert.feature_projection, self.hubert.encoder.pos_conv_embed):
                module.eval()
            self.hubert.encoder.dropout.eval()
            self.hubert.encoder.layers[: self.first].eval()
        return self

    @torch.no_grad()
    def prepare(self, wave: torch.Tensor, vector=None, speaker=None) -> Part:
        """Everything before what is trained, of one utterance's samples, (samples,), normalised."""
        x = packed.run_front(self.hubert, wave)
        part = Part(x, len(x), vector=vector, speaker=speaker)
        if self.first is None:
            return part
        part.x, states = self._run([part], 0, self.first, self._enter([part]))
        if self.reads == "layers":
            part.pooled = torch.stack([packed.average(state, [part.n_frames])[0] for state in states])
        return part

    def features(self, parts: list[Part]) -> dict[str, torch.Tensor]:
        """What the head takes of utterances: `features`, (B, W), (B, L, W) or (B, T, W), and what goes with them."""
        lengths = [part.n_frames for part in parts]
        x = self._enter(parts) if self.first is None else torch.cat([part.x for part in parts])
        first = self.first or 0
        x, states = self._run(parts, first, len(self.hubert.encoder.layers), x)
        item = {}
        if self.reads == "layers":
            before = [] if self.first is None else [torch.stack([part.pooled for part in parts])]
            own = states if self.first is None else states[1:]
            item["features"] = torch.cat([*before, *(packed.average(s, lengths)[:, None] for s in own)], 1)
        else:
            last = self.hubert.encoder.layer_norm(states[-1]) if self.stable else states[-1]
            if self.reads == "last":
                item["features"] = packed.average(last, lengths)
            else:
                rows = [part[:: -(-len(part) // self.max_frames)] for part in last.split(lengths)]
                item["features"] = nn.utils.rnn.pad_sequence(rows, batch_first=True)
                item["n_frames"] = torch.tensor([[len(row)] for row in rows], dtype=torch.int32, device=x.device)
        if parts[0].speaker is not None:
            item["speaker"] = torch.stack([part.speaker for part in parts])
        return {key: value.float() if value.is_floating_point() else value for key, value in item.items()}

    def _enter(self, parts: list[Part]) -> torch.Tensor:
        """The input of the first layer, with the speakers' vectors where they are added there."""
        lengths = [part.n_frames for part in parts]
        x = packed.enter(self.hubert, torch.cat([part.x for part in parts]), lengths)
        if self.position == "first":
            return x + self._spread(parts)
        if self.position == "prefix":
            pairs = zip(parts, x.split(lengths), strict=True)
            return torch.cat([row for part, own in pairs for row in (self._vector(part)[None].to(x.dtype), own)])
        return x

    def _run(self, parts: list[Part], first: int, stop: int, x: torch.Tensor) -> tuple[torch.Tensor, list]:
        """Layers `first` to `stop`: what comes out, and the hidden states from the input of the first of them on.

        Hidden states have no row for a token before the utterance; what comes out has.
        """
        lengths = [part.n_frames + (self.position == "prefix") for part in parts]
        frames = slice(None)
        if self.position == "prefix":
            frames = torch.cat([torch.arange(n, device=x.device) > 0 for n in lengths])
        layers = self.hubert.encoder.layers
        states, biases = [x[frames]], packed.find_biases(self.hubert, lengths)
        for number in range(first, stop):
            x = self.run_layer(layers[number], x, lengths, self.stable, biases)
            states.append(x[frames])
        if self.position == "last" and stop == len(layers):
            states[-1] = states[-1] + self._spread(parts)
        return x, states

    def _spread(self, parts: list[Part]) -> torch.Tensor:
        """The vector of each frame's speaker, (all frames, width)."""
        return torch.cat([self._vector(part).expand(part.n_frames, -1) for part in parts])

    def _vector(self, part: Part) -> torch.Tensor:
        """The vector of an utterance's speaker, (width,)."""
        return part.vector if self.table is None else self.table[part.vector].mean(0)
