"""Masked prediction as a task of `optimisation.trainer`: its batches, optimiser, loss and accuracy."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from ser.adaptation.batches import Clip, Crops, plan_batches
from ser.adaptation.masked_prediction import MaskedPrediction

WORKERS = {"cpu": 1, "cuda": 4}  # processes that decode the next batches


@dataclass
class Pretraining:
    """A model with what it hears. `clips` are `train` and `validation`; `settings` is the config's `pretraining`.

    Its sums are of loss times masked frames, frames predicted right, and masked frames.
    """

    model: MaskedPrediction
    clips: dict[str, list[Clip]]
    settings: dict
    audio: dict
    normalise: bool
    accelerator: Accelerator
    name: str = "adaptation"

    section = "pretraining, or in the encoder's own pretraining"
    measures = ("loss", "accuracy")
    goal = None
    n_sums = 3

    def plan(self, epoch: int) -> list[np.ndarray]:
        return self._plan("train", [self.settings["seed"], epoch])

    def load(self, plan: list[np.ndarray], first: int, stop: int) -> Iterator[dict]:
        return self._load("train", plan, first, stop, 0)

    def make_optimizer(self) -> torch.optim.Optimizer:
        hubert = self.model.hubert
        if self.settings["freeze_front"]:
            hubert.feature_extractor._freeze_parameters()
        known = set(map(id, hubert.parameters()))
        groups = [
            {"params": [p for p in hubert.parameters() if p.requires_grad], "lr": self.settings["learning_rate"]},
            {
                "params": [p for p in self.model.parameters() if id(p) not in known],
                "lr": self.settings["head_learning_rate"],
            },
        ]
        return torch.optim.Adam(groups, betas=(0.9, 0.98), eps=1e-6)  # HuBERT's

    def learn(self, model: torch.nn.Module, batches: list[dict]) -> torch.Tensor:
        sums = torch.zeros(self.n_sums, dtype=torch.float64, device=self.accelerator.device)
        for number, batch in enumerate(batches, 1):
            batch = self._to_device(batch)
            with self._sync(model, number == len(batches)), self.accelerator.autocast():
                loss, right = model(**batch)
                self.accelerator.backward(loss / len(batches))
            sums += self._count(batch, loss.detach(), right)
        return sums

    def evaluate(self, model: torch.nn.Module) -> torch.Tensor | None:
        """The same crops and masks each time, whatever is being trained."""
        if not self.clips["validation"]:
            return None
        plan = self._plan("validation", [0, 0])
        sums = torch.zeros(self.n_sums, dtype=torch.float64, device=self.accelerator.device)
        for batch in self._load("validation", plan, 0, len(plan), 1):
            batch = self._to_device(batch)
            with self.accelerator.autocast():
                loss, right = self.accelerator.unwrap_model(model)(**batch)
            sums += self._count(batch, loss, right)
        return sums

    def summarise(self, sums: list[float]) -> list[float]:
        loss, right, masked = sums
        return [loss / masked, right / masked]

    def _plan(self, split: str, seed: list[int]) -> list[np.ndarray]:
        lengths = np.array([len(clip.labels) for clip in self.clips[split]])
        rng = np.random.default_rng(seed)
        return plan_batches(lengths, self.settings["batch_seconds"], self.settings["crop_seconds"], rng)

    def _load(self, split: str, plan: list[np.ndarray], first: int, stop: int, stream: int) -> Iterator[dict]:
        seed = [self.settings["seed"], stream]
        crops = Crops(self.clips[split], plan, self.settings, self.audio, self.normalise, seed)
        numbers = range(first + self.accelerator.process_index, stop, self.accelerator.num_processes)
        device = self.accelerator.device.type
        return iter(DataLoader(crops, None, sampler=numbers, num_workers=WORKERS[device], pin_memory=device == "cuda"))

    def _to_device(self, batch: dict) -> dict:
        batch = {key: value.to(self.accelerator.device, non_blocking=True) for key, value in batch.items()}
        return batch | {"speakers": batch["speakers"] if batch["speakers"].shape[1] else None}

    def _sync(self, model, last: bool):
        """Gradients are shared between processes with the last of the batches that they are summed over."""
        return contextlib.nullcontext() if last else self.accelerator.no_sync(model)

    @staticmethod
    def _count(batch: dict, loss: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        masked = batch["mask"].sum()
        return torch.stack([loss.double() * masked, right.double(), masked.double()])
