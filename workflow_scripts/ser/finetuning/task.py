"""Fine-tuning as a task of `optimisation.trainer`: its batches, optimiser, loss and what is measured."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset

from ser.audio import decode
from ser.audio.frames import FRAMES_A_SECOND, HOP, SAMPLE_RATE, WINDOW
from ser.files import DataError
from ser.finetuning.gradient_caching import backpropagate, split_parts
from ser.finetuning.joint_model import JointModel, Part
from ser.finetuning.loss import SUMS, ccc_loss, ccc_of_sums, sum_moments
from ser.finetuning.memory_bank import MemoryBank
from ser.formats.manifest import name_content

WORKERS = {"cpu": 1, "cuda": 4}  # processes that decode the next batches


@dataclass(frozen=True, eq=False)
class Clip:
    """An utterance to train on, or to choose an epoch by."""

    utterance_id: str
    speaker_id: str
    path: str
    sha256: str
    seconds: float
    labels: np.ndarray  # (targets,) float32
    weight: float = 1.0  # in the loss
    vector: np.ndarray | None = None  # (width,) of its speaker, for a personalised encoder; or rows of a trained table
    speaker: np.ndarray | None = None  # (V,) its speaker's, for a head with speaker information
    start: float | None = None  # s, of a part of the file
    end: float | None = None

    @property
    def content(self) -> str:
        return name_content(self.sha256, self.start, self.end)

    def weigh(self, weight: float) -> "Clip":
        return replace(self, weight=weight)

    def count_frames(self, crop_seconds: float) -> int:
        samples = int(min(self.seconds, crop_seconds) * SAMPLE_RATE)
        return max(1, (samples - WINDOW) // HOP + 1)


def plan_batches(count: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """One pass over so many utterances in random order: as few batches of at most `size` as hold them all.

    They differ by one at most: no last batch is left with an utterance or two.
    """
    return np.array_split(rng.permutation(count), -(-count // size))


class Waves(Dataset):
    """The batches of a plan: of each utterance the samples, (n,) float32, at most the last `crop_seconds`."""

    def __init__(self, clips: list[Clip], plan: list[np.ndarray], crop_seconds: float, audio: dict, normalise: bool):
        self.clips, self.plan, self.crop, self.audio = clips, plan, int(crop_seconds * SAMPLE_RATE), audio
        self.normalise = normalise

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, number: int) -> dict:
        rows = self.plan[number]
        return {"number": number, "rows": rows, "waves": [self._read(self.clips[row]) for row in rows]}

    def _read(self, clip: Clip) -> torch.Tensor:
        try:
            samples, _ = decode.load(clip.path, sha256=clip.sha256, start=clip.start, stop=clip.end, **self.audio)
        except decode.Rejected as reason:
            raise DataError(f"{clip.path}: {reason}; it was fit for use when it was measured: run again") from None
        wave = samples[-self.crop :]
        return torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7) if self.normalise else wave)


@dataclass
class FineTuning:
    """A model with what it hears. `clips` are `train` and `validation`; `settings` is the ablation's `finetune`.

    Nothing before the first trained layer ever changes: what comes out there, of a split where it takes no more than
    what is left of `memory_bytes`, is computed once and held.

    `banks` has one of each split for a head that knows other utterances of a speaker, else none. The training split's
    becomes a part of the model's state: a killed run goes on with it.

    Its sums are the moments of labels and predictions of each target, then losses and their number.
    """

    model: JointModel
    clips: dict[str, list[Clip]]
    settings: dict
    audio: dict
    normalise: bool
    targets: list[str]
    accelerator: Accelerator
    memory_bytes: float = 0
    banks: dict[str, MemoryBank] = field(default_factory=dict)
    held: dict[str, list[Part]] = field(default_factory=dict)  # of a split, one for each clip
    name: str = "fine-tuning"

    section = "finetuning, or in the ablation's own finetune"
    goal = "ccc"

    def __post_init__(self):
        if self.banks:
            self.model.add_module("bank", self.banks["train"])
        for bank in self.banks.values():
            bank.to(self.accelerator.device)

    @property
    def measures(self) -> list[str]:
        return ["loss", "ccc", *(f"{target}_ccc" for target in self.targets)]

    @property
    def n_sums(self) -> int:
        return SUMS * len(self.targets) + 2

    def plan(self, epoch: int) -> list[np.ndarray]:
        """A batch is one step's; where there are several processes, each has a part of it."""
        rng = np.random.default_rng([self.settings["seed"], epoch])
        batches = plan_batches(len(self.clips["train"]), self.settings["batch_size"], rng)
        return [part for batch in batches for part in np.array_split(batch, self.accelerator.num_processes)]

    @cached_property
    def _batches_an_epoch(self) -> int:
        return len(self.plan(0))

    def load(self, plan: list[np.ndarray], first: int, stop: int) -> Iterator[dict]:
        return self._load("train", plan, self._own(first, stop))

    def make_optimizer(self) -> torch.optim.Optimizer:
        head, rate = set(map(id, self.model.head.parameters())), self.settings["learning_rate"]
        trained = [p for p in self.model.parameters() if p.requires_grad]
        head_rate = self.settings["head_learning_rate"]
        groups = [
            {"params": [p for p in trained if id(p) not in head], "lr": rate},
            {"params": [p for p in trained if id(p) in head], "lr": rate if head_rate is None else head_rate},
        ]
        return torch.optim.AdamW(groups, weight_decay=self.settings["weight_decay"])

    def learn(self, model: torch.nn.Module, batches: list[dict]) -> torch.Tensor:
        """The gradient of 1 - CCC over all utterances of the batch, whatever of them fits in memory at once."""
        (batch,) = batches
        sums, rank = torch.zeros(self.n_sums, dtype=torch.float64), self.accelerator.process_index
        seed = torch.initial_seed() * 1009
        clips, parts = self._prepare("train", batch)
        groups = self._group(parts)
        order = [row for group in groups for row in group]
        own = [self._stack([clips[row].labels for row in order])]
        own.append(self._stack([np.float32(clips[row].weight) for row in order]))
        own.append(torch.as_tensor(batch["rows"])[order].to(self.accelerator.device))
        own += self._stack_speakers([parts[row] for row in order])
        epoch = batch["number"] // self._batches_an_epoch

        def finish(encoded: torch.Tensor) -> torch.Tensor:
            nonlocal sums
            if self.accelerator.num_processes > 1:  # the head sees the same there, and has to draw the same dropout
                torch.manual_seed(seed - rank * 1009)
            encoded, labels, weights, rows, *speakers = self._gather([encoded, *own])
            if self.banks:
                self.banks["train"].put(rows, encoded)
            predictions = self._finish("train", rows, encoded, speakers, epoch)
            loss = ccc_loss(labels, predictions, weights)
            sums = self._count(labels, predictions, loss.detach())
            return loss

        backpropagate(self._encode, finish, [[parts[row] for row in group] for group in groups], seed)
        self._add_up_gradients()
        return sums

    def _gather(self, own: list[torch.Tensor]) -> list[torch.Tensor]:
        """Each of these with what the other processes have of it, in order; gradients reach what is this one's own."""
        if self.accelerator.num_processes == 1:
            return own
        everyone = gather_object([[x.detach().cpu() for x in own]])
        everyone[self.accelerator.process_index] = own
        return [torch.cat([x.to(self.accelerator.device) for x in each]) for each in zip(*everyone, strict=True)]

    def _add_up_gradients(self) -> None:
        """Of what each process computed for its own utterances alone: not of a head that had those of all."""
        if self.accelerator.num_processes == 1:
            return
        same = set() if self.model.reads == "frames" else set(map(id, self.model.head.parameters()))
        for p in self.model.parameters():
            if p.requires_grad and id(p) not in same:
                p.grad = self.accelerator.reduce(torch.zeros_like(p) if p.grad is None else p.grad)

    def evaluate(self, model: torch.nn.Module) -> torch.Tensor:
        sums = torch.zeros(self.n_sums, dtype=torch.float64, device=self.accelerator.device)
        for labels, predictions in self._predict("validation"):
            sums += self._count(labels, predictions, None)
        return sums

    def summarise(self, sums: list[float]) -> list[float]:
        *moments, loss, count = sums
        scores = ccc_of_sums(moments)
        mean = float(np.mean(scores))
        return [loss / count if count else 1 - mean, mean, *scores]

    @torch.no_grad()
    def measure_features(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of what the head reads, over the training split, as the encoder is now; fills its bank."""
        self.model.eval()
        count, total, squares, bank = 0, 0.0, 0.0, self.banks.get("train")
        items = ((rows, self._features(parts)) for rows, parts in self._visit("train"))
        if bank:
            for rows, item in items:
                bank.put(rows, item["features"])
            blocks = torch.arange(len(bank.features), device=self.accelerator.device).split(64)
            items = ((rows, bank.look(rows, bank.features[rows])) for rows in blocks)
        for _, item in items:
            x = item["features"]
            if "n_frames" in item:
                x = torch.cat([row[:n] for row, n in zip(x, item["n_frames"][:, 0], strict=True)])
            x = x.double().cpu().numpy()
            count, total, squares = count + len(x), total + x.sum(0), squares + (x * x).sum(0)
        return total / count, np.maximum(squares / count - (total / count) ** 2, 0)

    def _predict(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Labels and predictions of this process's share of a split, batch by batch."""
        encoded = (
            (rows, self._encode(parts), self._stack_speakers(parts)) for rows, parts in self._visit(split, shared=True)
        )
        if split in self.banks:  # all utterances, before any is seen beside others
            encoded, bank = list(encoded), self.banks[split]
            bank.features.zero_()
            for rows, features, _ in encoded:
                bank.put(rows, features)
            bank.features = self.accelerator.reduce(bank.features)  # each process has put its own
        for rows, features, speakers in encoded:
            labels = self._stack([self.clips[split][row].labels for row in rows])
            yield labels, self._finish(split, rows, features, speakers)

    def _own(self, first: int, stop: int) -> range:
        """Of batches `first` to `stop` those of this process."""
        return range(first + self.accelerator.process_index, stop, self.accelerator.num_processes)

    def _visit(self, split: str, shared: bool = False) -> Iterator[tuple[torch.Tensor, list[Part]]]:
        """The rows and utterances of a split, all or this process's share, in batches of like length.

        Each batch fits in memory.
        """
        lengths = self._lengths(split)
        plan, held = [np.array(group) for group in split_parts(lengths, self._most)], {}
        numbers = self._own(0, len(plan)) if shared else range(len(plan))
        for batch in self._load(split, plan, numbers):
            _, parts = self._prepare(split, batch)
            yield torch.as_tensor(batch["rows"]).to(self.accelerator.device), parts
            size = sum(lengths) * parts[0].x[0].nbytes
            if split not in self.held and size <= self.memory_bytes:
                held |= {row: part.to("cpu") for row, part in zip(batch["rows"].tolist(), parts, strict=True)}
        if len(held) == len(lengths):
            self.held[split] = [held[row] for row in range(len(lengths))]
            self.memory_bytes -= size

    @property
    def _most(self) -> int:
        return int(self.settings["micro_batch_seconds"] * FRAMES_A_SECOND)

    def _lengths(self, split: str) -> list[int]:
        return [clip.count_frames(self.settings["crop_seconds"]) for clip in self.clips[split]]

    def _group(self, parts: list[Part]) -> list[list[int]]:
        return split_parts([part.n_frames for part in parts], self._most)

    def _load(self, split: str, plan: list[np.ndarray], numbers: range) -> Iterator[dict]:
        if split in self.held:
            return ({"number": number, "rows": plan[number]} for number in numbers)
        waves = Waves(self.clips[split], plan, self.settings["crop_seconds"], self.audio, self.normalise)
        workers = WORKERS[self.accelerator.device.type]
        return iter(DataLoader(waves, None, sampler=numbers, num_workers=workers))

    def _prepare(self, split: str, batch: dict) -> tuple[list[Clip], list[Part]]:
        clips, parts = [self.clips[split][row] for row in batch["rows"]], []
        if "waves" not in batch:
            return clips, [self.held[split][row].to(self.accelerator.device) for row in batch["rows"]]
        for clip, wave in zip(clips, batch["waves"], strict=True):
            own = [None if v is None else self._move(v) for v in (clip.vector, clip.speaker)]
            with self.accelerator.autocast():
                parts.append(self.model.prepare(wave.to(self.accelerator.device), *own))
        return clips, parts

    def _features(self, parts: list[Part]) -> dict[str, torch.Tensor]:
        with self.accelerator.autocast():
            return self.model.features(parts)

    def _encode(self, parts: list[Part]) -> torch.Tensor:
        """One tensor per utterance, after which nothing takes memory: pooled features, or of frames the predictions."""
        item = self._features(parts)
        return self.model.head(item) if self.model.reads == "frames" else item["features"]

    def _finish(
        self,
        split: str,
        rows: torch.Tensor,
        encoded: torch.Tensor,
        speakers: list[torch.Tensor],
        epoch: int | None = None,
    ) -> torch.Tensor:
        """The predictions, (utterances, targets), of what was encoded: the head sees all of it at once.

        An `epoch` says that it is trained.
        """
        if self.model.reads == "frames":
            return encoded
        item = self.banks[split].look(rows, encoded, epoch) if split in self.banks else {"features": encoded}
        return self.model.head(item | ({"speaker": speakers[0]} if speakers else {}))

    def _stack_speakers(self, parts: list[Part]) -> list[torch.Tensor]:
        """The averaged MFCCs, (utterances, 13), for a head that takes them beside what was encoded; else nothing."""
        beside = self.model.reads != "frames" and parts[0].speaker is not None
        return [torch.stack([part.speaker for part in parts])] if beside else []

    def _count(self, labels: torch.Tensor, predictions: torch.Tensor, loss: torch.Tensor | None) -> torch.Tensor:
        last = [0.0, 0.0] if loss is None else [float(loss), 1.0]
        return torch.cat([sum_moments(labels, predictions), torch.tensor(last, dtype=torch.float64).to(labels.device)])

    def _stack(self, arrays: list) -> torch.Tensor:
        return self._move(np.stack(arrays))

    def _move(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.accelerator.device)
