"""The loop that trains an encoder, whatever its task: steps, checkpoints, curve, one process or several.

A run that was killed goes on from its last checkpoint with the same numbers: every batch, mask and dropout pattern is
drawn from the seed and the number of the step.
"""

import csv
import logging
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator, notebook_launcher
from torch.cuda import device_count
from tqdm import tqdm

from ser.files import DataError, atomic
from ser.formats.curves import clear_curves, rename_curves

# TensorBoard's writer would import TensorFlow where that is installed: 3 s and 0.5 GB of a job, to no use here
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
from torch.utils.tensorboard import SummaryWriter  # noqa: E402

log = logging.getLogger(__name__)

CURVE_ROWS = 200  # of the training loss, about


class Task(Protocol):
    """What is trained. Its sums are what a loss and its company are ratios of, (n,) float64, added up over batches."""

    name: str  # as errors call it
    section: str  # of the config, that says how it is trained
    model: torch.nn.Module
    measures: list[str]  # names of what `summarise` gives
    goal: str | None  # the measure whose best weights on the validation split are kept; None keeps the last ones
    n_sums: int

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, in order."""

    def load(self, plan: list[np.ndarray], first: int, stop: int) -> Iterator[dict]:
        """Batches `first` to `stop` of a plan that are this process's, in order."""

    def make_optimizer(self) -> torch.optim.Optimizer: ...

    def learn(self, model: torch.nn.Module, batches: list[dict]) -> torch.Tensor:
        """Add the gradient of a step's batches; their sums."""

    def evaluate(self, model: torch.nn.Module) -> torch.Tensor | None:
        """The sums of the validation split; None where there is nothing to measure."""

    def summarise(self, sums: list[float]) -> list[float]:
        """The measures, of the sums of all processes."""


@dataclass
class Trainer:
    """A training run of a task.

    `settings` holds `epochs`, `accumulate` (batches a step), `warmup` (share of the steps), `clip`, `checkpoint_steps`
    and `seed`; of a task with a goal `patience`, the epochs without a better one before training stops. `identity` says
    what this very run is: a checkpoint of another is not resumed. The step size `decays` to 0 after warm-up, or stays.
    """

    task: Task
    settings: dict
    accelerator: Accelerator
    checkpoint: Path
    identity: str
    tensorboard: Path
    decays: bool = True
    best: dict | None = None  # `value` of the goal, its `epoch`, and the model's `state` then
    curve: list[dict] = field(default_factory=list)  # rows of `columns`
    writer: SummaryWriter | None = None  # of the main process

    @property
    def columns(self) -> list[str]:
        return ["step", "epoch", "split", *self.task.measures, "learning_rate"]

    def train(self) -> None:
        """Train the task's model, from the run's checkpoint if there is one."""
        settings, task = self.settings, self.task
        parts = settings["accumulate"]
        share = parts * self.accelerator.num_processes  # batches a step
        plan, ends = self._plan(share)
        total = ends[-1]
        optimizer = task.make_optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule_rate(step, total, settings["warmup"], self.decays)
        )
        first, sums = self._resume(optimizer, schedule)
        model, optimizer = self.accelerator.prepare(task.model, optimizer)
        main = self.accelerator.is_main_process
        if main:
            if not self.curve:
                clear_curves(self.tensorboard, 2)
            self.writer = SummaryWriter(self.tensorboard, purge_step=first + 1)
        if not self.curve:
            self._evaluate(model, 0, 0, 0.0)
        if first < total:
            batches = task.load(plan, first * share, total * share)
        every = max(1, total // CURVE_ROWS)
        progress = tqdm(total=total, initial=first, unit="step", mininterval=5, disable=not main)
        for step in range(first, total):
            rate = schedule.get_last_lr()[0]
            self._seed(step)
            model.train()
            sums = sums + task.learn(model, [next(batches) for _ in range(parts)])
            self.accelerator.clip_grad_norm_(model.parameters(), settings["clip"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done, epoch = step + 1, int(np.searchsorted(ends, step + 1, side="left")) + 1
            if done % every == 0 or done == total:
                self._note(done, epoch, "train", sums, rate)
                sums = torch.zeros_like(sums)
                progress.set_postfix_str(self._describe(), refresh=False)
            if done in ends:
                self._evaluate(model, done, epoch, rate)
                if self._has_stopped(epoch):
                    break
            progress.update()
            if done % settings["checkpoint_steps"] == 0 and done < total and main:
                self._save(done, optimizer, schedule, sums)
        progress.close()
        if self.best:
            task.model.load_state_dict(self.best["state"])
        if main:
            self.writer.close()
            rename_curves(self.tensorboard)

    def write_curve(self, path: str | Path) -> None:
        """Write the curve as CSV."""
        with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.curve)

    def _plan(self, share: int) -> tuple[list[np.ndarray], list[int]]:
        """The batches of all epochs, and the step at which each epoch is over."""
        plan, ends = [], []
        for epoch in range(self.settings["epochs"]):
            plan += self.task.plan(epoch)
            ends.append(max(1, len(plan) // share))
        return plan * -(-ends[-1] * share // len(plan)), ends  # all epochs together may have fewer than one step's

    def _seed(self, step: int) -> None:
        """Dropout depends on the step alone, not on where the run began."""
        process = step * self.accelerator.num_processes + self.accelerator.process_index
        torch.manual_seed(self.settings["seed"] * 1_000_003 + process)

    @torch.no_grad()
    def _evaluate(self, model, step: int, epoch: int, rate: float) -> None:
        model.eval()
        sums = self.task.evaluate(model)
        if sums is None:
            return
        self._note(step, epoch, "validation", sums, rate)
        if self.task.goal is None or not epoch:
            return
        value = self.curve[-1][self.task.goal]
        if self.best is None or value > self.best["value"]:
            state = {name: tensor.detach().cpu().clone() for name, tensor in self.task.model.state_dict().items()}
            self.best = {"value": value, "epoch": epoch, "state": state}

    def _has_stopped(self, epoch: int) -> bool:
        """Whether a task with a goal has gone `patience` epochs without coming nearer to it."""
        return self.best is not None and epoch - self.best["epoch"] >= self.settings["patience"]

    def _describe(self) -> str:
        best = f", best validation {self.task.goal} {self.best['value']:.4f}" if self.best else ""
        return f"loss {self.curve[-1]['loss']}{best}"

    def _note(self, step: int, epoch: int, split: str, sums: torch.Tensor, rate: float) -> None:
        """Add a row to the curve, from the sums of all processes."""
        values = [round(value, 6) for value in self.task.summarise(self.accelerator.reduce(sums).tolist())]
        if not np.isfinite(values).all():
            rates = {key: self.settings[key] for key in ("learning_rate", "head_learning_rate")}
            now = " or ".join(f"{key} (now {rate:g})" for key, rate in rates.items() if rate)
            raise DataError(
                f"{self.task.name}: the loss is {values[0]} at step {step}; lower {now} in {self.task.section}"
            )
        self.curve.append(dict(zip(self.columns, (step, epoch, split, *values, f"{rate:.4g}"), strict=True)))
        if self.accelerator.is_main_process:
            measured = ", ".join(f"{name} {value:.4f}" for name, value in zip(self.task.measures, values, strict=True))
            log.info("step %d, epoch %d, %s: %s", step, epoch, split, measured)
            for name, value in zip(self.task.measures, values, strict=True):
                self.writer.add_scalar(f"{split}/{name}", value, step)

    def _save(self, step: int, optimizer, schedule, sums: torch.Tensor) -> None:
        state = {
            "identity": self.identity,
            "step": step,
            "model": self.task.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "sums": sums,
            "curve": self.curve,
            "best": self.best,
        }
        with atomic(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def _resume(self, optimizer, schedule) -> tuple[int, torch.Tensor]:
        """The step to begin with and the running sums; model, optimizer and curve as they were."""
        fresh = 0, torch.zeros(self.task.n_sums, dtype=torch.float64, device=self.accelerator.device)
        if not self.checkpoint.exists():
            return fresh
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a damaged file makes of torch's reader
            log.warning("%s cannot be read (%s): training starts anew", self.checkpoint, error)
            return fresh
        if state["identity"] != self.identity:
            log.info("%s is of another run: training starts anew", self.checkpoint)
            return fresh
        self.task.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        self.curve, self.best = state["curve"], state["best"]
        log.info("resumed after step %d", state["step"])
        return state["step"], state["sums"].to(fresh[1])


def schedule_rate(step: int, total: int, warmup: float, decays: bool = True) -> float:
    """The share of the learning rate at a step: up over the first `warmup` of all steps, then down to 0, or level."""
    rising = max(1, round(warmup * total))
    return min((step + 1) / rising, (total - step) / max(1, total - rising + 1) if decays else 1.0)


def launch(function, device: str, gpus: int, section: str) -> None:
    """Call `function(device)`, with `auto` as CUDA where present, on as many GPUs of this machine as `gpus` says.

    Raises DataError, naming the config's `section`, where there are not so many.
    """
    # device_count asks the driver's library: CUDA itself, once it has been asked, works in no process forked later
    found = 0 if device == "cpu" else device_count()
    if device == "cuda" and not found:
        raise DataError(f"device: cuda, but torch {torch.__version__} finds no CUDA device; set cpu or auto")
    if not found or gpus == 1:
        return function("cuda" if found else "cpu")
    if gpus > found:
        raise DataError(f"{section}: gpus is {gpus}, but this job sees {found}")
    # It forks, so that no second script is needed; at port 0 two such jobs can share a machine.
    notebook_launcher(function, ("cuda",), gpus, rdzv_backend="c10d", rdzv_endpoint="localhost:0")


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Of this process; `precision` `auto` is bfloat16 on CUDA and float32 on a CPU."""
    bf16 = precision == "bfloat16" or (precision == "auto" and device == "cuda")
    return Accelerator(cpu=device == "cpu", mixed_precision="bf16" if bf16 else "no")
