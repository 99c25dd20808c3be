"""Batches of audio for masked prediction: crops of one length each, with pseudo-labels, speakers and masks.

Nothing is padded (an encoder's first normalisation runs over time, and would see the padding): a batch holds
utterances of about the same length, each cropped at random to the shortest of them.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ser.adaptation.masked_prediction import draw_spans
from ser.audio import decode
from ser.audio.frames import FRAMES_A_SECOND, HOP, WINDOW
from ser.files import DataError
from ser.formats.manifest import Utterance

SHORTEST = 20  # frames: a masked span of 10 and something around it to predict it from


@dataclass(frozen=True, eq=False)
class Clip:
    """An utterance to train on."""

    utterance: Utterance
    labels: np.ndarray  # (frames,) uint16
    speakers: list[int]  # rows of the speaker table: its own, or those of its neighbours; empty without a table


def plan_batches(
    lengths: np.ndarray, seconds: float, crop_seconds: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """One pass over clips of `lengths` frames: batches of their indices, in random order, of `seconds` at most."""
    lengths = np.minimum(lengths, int(crop_seconds * FRAMES_A_SECOND))
    # sorted by length, but not quite, so that a clip meets others in every pass
    order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)))[::-1]
    batches, first, shortest = [], 0, np.inf
    for last, index in enumerate(order):
        shortest = min(shortest, lengths[index])
        if last > first and (last - first + 1) * shortest > seconds * FRAMES_A_SECOND:
            batches.append(order[first:last])
            first, shortest = last, lengths[index]
    batches.append(order[first:])
    return [batches[i] for i in rng.permutation(len(batches))]


class Crops(torch.utils.data.Dataset):
    """The batches of a plan, each the same whoever asks for it and when: resumed training sees the same ones.

    An item is a dict of `waves` (batch, samples) float32, `mask` (batch, frames) bool, `labels` (batch, frames) int64
    and `speakers` (batch, neighbours) int64.
    """

    def __init__(self, clips: list[Clip], plan: list[np.ndarray], settings: dict, audio: dict, normalise: bool, seed):
        self.clips, self.plan, self.settings, self.audio = clips, plan, settings, audio
        self.normalise, self.seed = normalise, seed

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([*self.seed, number])
        clips = [self.clips[index] for index in self.plan[number]]
        longest = int(self.settings["crop_seconds"] * FRAMES_A_SECOND)
        n_frames = min(longest, *(len(clip.labels) for clip in clips))
        spans = self.settings["mask_probability"], self.settings["mask_length"]
        waves, labels = [], []
        for clip in clips:
            start = int(rng.integers(len(clip.labels) - n_frames + 1))
            waves.append(self._cut(clip, start, n_frames))
            labels.append(clip.labels[start : start + n_frames].astype(np.int64))
        return {
            "waves": torch.from_numpy(np.stack(waves)),
            "mask": torch.from_numpy(np.stack([draw_spans(n_frames, *spans, rng) for _ in clips])),
            "labels": torch.from_numpy(np.stack(labels)),
            "speakers": torch.tensor([clip.speakers for clip in clips], dtype=torch.int64),
        }

    def _cut(self, clip: Clip, start: int, n_frames: int) -> np.ndarray:
        try:
            samples, _ = decode.load(**clip.utterance.source, **self.audio)
        except decode.Rejected as reason:
            what = f"{clip.utterance.path}: {reason}; it was fit for use when its pseudo-labels were made"
            raise DataError(what) from None
        wave = samples[start * HOP : (start + n_frames - 1) * HOP + WINDOW]
        return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7) if self.normalise else wave
