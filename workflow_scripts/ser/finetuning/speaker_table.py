"""Speakers' vectors that are trained with a personalised encoder, and whose of them an utterance has."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ser.adaptation.neighbours import place_speakers, read_means
from ser.adaptation.prediction_head import read_vectors
from ser.finetuning.task import Clip
from ser.formats.encoder_folder import HEAD
from ser.formats.tensors import write_tensors


@dataclass(frozen=True)
class Compared:
    """How speakers without a vector of their own are given those of others.

    `means` are summaries by speaker of all splits that are heard; `neighbours` says how many vectors are averaged.
    """

    means: list[str]
    neighbours: int


class SpeakerTable:
    """The vectors that pre-training made, in the folder of an encoder: `vectors`, (speakers, W)."""

    def __init__(self, base: Path, compared: Compared):
        known = read_vectors(base / HEAD)
        self.speakers = list(known)
        self.vectors = torch.from_numpy(np.stack(list(known.values())))
        number = {speaker: row for row, speaker in enumerate(known)}
        placed = place_speakers(read_means(compared.means), self.speakers, compared.neighbours)
        self._rows = {speaker: [row] for speaker, row in number.items()}
        self._rows |= {speaker: [number[name] for name in names] for speaker, names in placed.items()}

    def point(self, clips: list[Clip]) -> list[Clip]:
        """Utterances with the rows of their speakers, (1,) or (neighbours,) int64, in place of vectors."""
        return [replace(clip, vector=np.array(self._rows[clip.speaker_id])) for clip in clips]

    def write(self, vectors: torch.Tensor, folder: Path) -> None:
        """Write trained vectors as pre-training does, for the speakers of other splits to be placed by."""
        state = {"speaker_vectors": vectors.detach().float().cpu().numpy()}
        write_tensors(folder / HEAD, state, {"speakers": json.dumps(self.speakers)})
