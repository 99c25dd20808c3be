"""Adaptive pre-training of an encoder by masked prediction on a corpus: TAPT, and PAPT with a vector a speaker.

Task-adaptive (TAPT) and personalised adaptive pre-training (PAPT) as in Tran, Yin and Soleymani (Interspeech 2023):
HuBERT's loss, Adam, a linear schedule with warm-up. A run that was killed goes on from its last checkpoint with the
same numbers: every batch, mask and dropout pattern is drawn from the seed and the number of the step.
"""

import contextlib
import csv
import hashlib
import io
import json
import logging
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, notebook_launcher
from torch.cuda import device_count
from torch.utils.data import DataLoader
from tqdm import tqdm

from ser import encoder, pseudo_labels
from ser.crops import FRAMES_A_SECOND, SHORTEST, Clip, Crops, plan_batches
from ser.files import DataError, atomic, sha256, write_text
from ser.manifest import read as read_manifest
from ser.masked_prediction import MaskedPrediction
from ser.placement import place_speakers, read_means
from ser.tensors import read_tensors, write_tensors

# TensorBoard's writer would import TensorFlow where that is installed: 3 s and 0.5 GB of a job, to no use here
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
from torch.utils.tensorboard import SummaryWriter  # noqa: E402

log = logging.getLogger(__name__)

CURVE = ["step", "epoch", "split", "loss", "accuracy", "learning_rate"]
HEAD_WEIGHTS = {"codes", "projection.weight", "projection.bias"}
CURVE_ROWS = 200  # of the training loss, about
# of a validation speaker; not the encoder's `neighbours`, with another number of which it need not be trained again
CURVE_NEIGHBOURS = 4
WORKERS = {"cpu": 1, "cuda": 4}  # processes that decode the next batches


def adapt(
    base: str,
    revision: str | None,
    out_dir: str | Path,
    *,
    shards: dict[str, tuple[list[str], list[str]]],
    clusters: str,
    speaker_means: list[str],
    options: dict,
    settings: dict,
    audio: dict,
    device: str,
    checkpoint: str | Path,
    tensorboard: str | Path,
    fingerprint: str,
) -> None:
    """Write an adapted encoder: its four files, `adaptation.safetensors` and its curve, `training.csv`.

    Args:
        base, revision: the encoder to begin with, as `encoder.prepare` takes them
        shards: manifests and pseudo-labels, shard by shard, of `train` (all that is trained on) and of `validation`
            (where the curve is measured; nothing is chosen by it)
        clusters: the centroids behind the pseudo-labels
        speaker_means: with PAPT, summaries of another encoder by speaker, for the neighbours of validation speakers
        options: `adaptation` (tapt or papt), `position` and `splits` (those behind `train`)
        settings: the config's `pretraining`
        checkpoint: a file that is there while training goes on; one left by this very run is resumed
        fingerprint: a digest of the code, which with the inputs and settings decides what this very run is
    """
    torch.set_num_threads(settings["threads"])
    precision = settings["precision"]
    bf16 = precision == "bfloat16" or (precision == "auto" and device == "cuda")
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="bf16" if bf16 else "no")
    folder, commit = encoder.fetch(base, revision)
    hubert, extractor = encoder.load(folder)
    centroids = pseudo_labels.read_clusters(clusters)
    heard = {split: _read_utterances(*shards[split]) for split in ("train", "validation")}
    speakers, rows = [], {}
    if options["adaptation"] == "papt":
        speakers = sorted({speaker for speaker, *_ in heard["train"]})
        number = {speaker: row for row, speaker in enumerate(speakers)}
        placed = place_speakers(read_means(speaker_means), speakers, CURVE_NEIGHBOURS)
        rows = {speaker: [number[name] for name in names] for speaker, names in placed.items()}
        rows |= {speaker: [row] for speaker, row in number.items()}
    clips = {split: _select(utterances, rows) for split, utterances in heard.items()}
    for split, utterances in heard.items():
        log.info("%s: %d of %d utterances, the others too short", split, len(clips[split]), len(utterances))
    if not clips["train"]:
        raise DataError(
            f"adaptation: no utterance of {', '.join(options['splits'])} lasts {SHORTEST / FRAMES_A_SECOND} s"
        )
    torch.manual_seed(settings["seed"])
    model = MaskedPrediction(
        hubert, len(centroids), len(speakers), options["position"], settings["code_width"], settings["temperature"]
    )
    continued = _load_head(model, folder / encoder.HEAD, centroids)
    log.info("%s of %s with %s prediction head", options["adaptation"], base, "the base's" if continued else "a new")
    inputs = [path for pair in shards.values() for paths in pair for path in paths] + [clusters, *speaker_means]
    inputs += sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    identity = [*map(sha256, inputs), fingerprint, options, settings, audio, device]
    run = Run(
        model=model,
        clips=clips,
        settings=settings,
        audio=audio,
        normalise=extractor.do_normalize,
        accelerator=accelerator,
        checkpoint=Path(checkpoint),
        identity=hashlib.sha256(json.dumps([*identity, accelerator.num_processes]).encode()).hexdigest(),
        tensorboard=Path(tensorboard),
    )
    curve = run.train()
    if not accelerator.is_main_process:
        return
    _save_head(model, centroids, speakers, Path(out_dir) / encoder.HEAD)
    text = io.StringIO()
    writer = csv.DictWriter(text, CURVE, lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    write_text(Path(out_dir) / "training.csv", text.getvalue())
    encoder.save(
        model.hubert,
        extractor,
        out_dir,
        base=base,
        revision=revision,
        commit=commit,
        weights="pretrained",
        adaptation=options["adaptation"],
        position=options["position"] if speakers else None,
        heard=options["splits"],
        hours=round(sum(len(clip.labels) for clip in clips["train"]) / FRAMES_A_SECOND / 3600, 4),
        speakers=len(speakers),
        clusters=len(centroids),
        settings=settings,
    )
    Path(checkpoint).unlink(missing_ok=True)


def launch(device: str, settings: dict, **arguments) -> None:
    """`adapt` on `device` (`auto` is CUDA where present), on as many GPUs of this machine as `settings` says."""
    # device_count asks the driver's library: CUDA itself, once it has been asked, works in no process forked later
    wanted, found = settings["gpus"], 0 if device == "cpu" else device_count()
    if device == "cuda" and not found:
        raise DataError(f"device: cuda, but torch {torch.__version__} finds no CUDA device; set cpu or auto")
    arguments |= {"settings": settings, "device": "cuda" if found else "cpu"}
    if not found or wanted == 1:
        return adapt(**arguments)
    if wanted > found:
        raise DataError(f"pretraining: gpus is {wanted}, but this job sees {found}")
    # It forks, so that no second script is needed; at port 0 two such jobs can share a machine.
    notebook_launcher(_adapt, (arguments,), wanted, rdzv_backend="c10d", rdzv_endpoint="localhost:0")


def _adapt(arguments: dict) -> None:
    adapt(**arguments)


@dataclass
class Run:
    """A training run. `clips` are `train` and `validation`; `settings` is the config's `pretraining`."""

    model: MaskedPrediction
    clips: dict[str, list[Clip]]
    settings: dict
    audio: dict
    normalise: bool
    accelerator: Accelerator
    checkpoint: Path
    identity: str
    tensorboard: Path
    curve: list[dict] = field(default_factory=list)
    writer: SummaryWriter | None = None  # of the main process

    def train(self) -> list[dict]:
        """Train the model, from the run's checkpoint if there is one; return the rows of the curve."""
        settings, world = self.settings, self.accelerator.num_processes
        lengths = np.array([len(clip.labels) for clip in self.clips["train"]])
        plan, ends = [], []  # ends: the step at which each epoch is over
        share = settings["accumulate"] * world  # batches a step
        for epoch in range(settings["epochs"]):
            plan += self._plan(lengths, [settings["seed"], epoch])
            ends.append(max(1, len(plan) // share))
        total = ends[-1]
        plan *= -(-total * share // len(plan))  # where all epochs together have fewer batches than one step
        if self.settings["freeze_front"]:
            self.model.hubert.feature_extractor._freeze_parameters()
        optimizer = self._optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, total, settings["warmup"]))
        first, sums = self._resume(optimizer, schedule)
        model, optimizer = self.accelerator.prepare(self.model, optimizer)
        main = self.accelerator.is_main_process
        if main:
            for path in () if self.curve else self.tensorboard.glob("events.*"):  # of an earlier run
                path.unlink()
            self.writer = SummaryWriter(self.tensorboard, purge_step=first + 1)
        if not self.curve:
            self._evaluate(model, 0, 0, 0.0)
        if first < total:
            batches = self._load("train", plan, first * share, total * share, 0)
        every = max(1, total // CURVE_ROWS)
        progress = tqdm(total=total, initial=first, unit="step", mininterval=5, disable=not main)
        for step in range(first, total):
            rate = schedule.get_last_lr()[0]
            torch.manual_seed(settings["seed"] * 1_000_003 + step * world + self.accelerator.process_index)
            model.train()
            for part in range(settings["accumulate"]):
                batch = self._to_device(next(batches))
                with self._sync(model, part == settings["accumulate"] - 1), self.accelerator.autocast():
                    loss, right = model(**batch)
                    self.accelerator.backward(loss / settings["accumulate"])
                masked = batch["mask"].sum()
                sums = sums + torch.stack([loss.detach().double() * masked, right.double(), masked.double()])
            self.accelerator.clip_grad_norm_(model.parameters(), settings["clip"])
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done, epoch = step + 1, int(np.searchsorted(ends, step + 1, side="left")) + 1
            if done % every == 0 or done == total:
                self._note(done, epoch, "train", sums, rate)
                sums = torch.zeros_like(sums)
                progress.set_postfix_str(f"loss {self.curve[-1]['loss']}", refresh=False)
            if done in ends:
                self._evaluate(model, done, epoch, rate)
            progress.update()
            if done % settings["checkpoint_steps"] == 0 and done < total and main:
                self._save(done, optimizer, schedule, sums)
        progress.close()
        if main:
            self.writer.close()
        return self.curve

    def _plan(self, lengths: np.ndarray, seed: list[int]) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return plan_batches(lengths, self.settings["batch_seconds"], self.settings["crop_seconds"], rng)

    def _load(self, split: str, plan: list[np.ndarray], first: int, stop: int, stream: int):
        """Batches `first` to `stop` of a plan that are this process's, in order."""
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

    def _optimizer(self) -> torch.optim.Optimizer:
        encoder_parameters = [p for p in self.model.hubert.parameters() if p.requires_grad]
        known = set(map(id, self.model.hubert.parameters()))
        new = [p for p in self.model.parameters() if id(p) not in known]
        groups = [
            {"params": encoder_parameters, "lr": self.settings["learning_rate"]},
            {"params": new, "lr": self.settings["head_learning_rate"]},
        ]
        return torch.optim.Adam(groups, betas=(0.9, 0.98), eps=1e-6)  # HuBERT's

    @torch.no_grad()
    def _evaluate(self, model, step: int, epoch: int, rate: float) -> None:
        """Add the validation loss: the same crops and masks each time, whatever is being trained."""
        if not self.clips["validation"]:
            return
        model.eval()
        lengths = np.array([len(clip.labels) for clip in self.clips["validation"]])
        plan = self._plan(lengths, [0, 0])
        sums = torch.zeros(3, dtype=torch.float64, device=self.accelerator.device)
        for batch in self._load("validation", plan, 0, len(plan), 1):
            batch = self._to_device(batch)
            with self.accelerator.autocast():
                loss, right = self.accelerator.unwrap_model(model)(**batch)
            masked = batch["mask"].sum()
            sums += torch.stack([loss.double() * masked, right.double(), masked.double()])
        self._note(step, epoch, "validation", sums, rate)

    def _note(self, step: int, epoch: int, split: str, sums: torch.Tensor, rate: float) -> None:
        """Add a row to the curve, from the sums of (loss, frames predicted right, frames masked) of all processes."""
        loss, right, masked = self.accelerator.reduce(sums).tolist()
        loss, accuracy = round(loss / masked, 6), round(right / masked, 6)
        if not np.isfinite(loss):
            raise DataError(f"adaptation: the loss is {loss} at step {step}; try a smaller learning rate")
        self.curve.append(dict(zip(CURVE, (step, epoch, split, loss, accuracy, f"{rate:.4g}"), strict=True)))
        if self.accelerator.is_main_process:
            log.info("step %d, epoch %d, %s: loss %.4f, accuracy %.4f", step, epoch, split, loss, accuracy)
            self.writer.add_scalar(f"{split}/loss", loss, step)
            self.writer.add_scalar(f"{split}/accuracy", accuracy, step)

    def _save(self, step: int, optimizer, schedule, sums: torch.Tensor) -> None:
        state = {
            "identity": self.identity,
            "step": step,
            "model": self.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "sums": sums,
            "curve": self.curve,
        }
        with atomic(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def _resume(self, optimizer, schedule) -> tuple[int, torch.Tensor]:
        """The step to begin with and the running sums; model, optimizer and curve as they were."""
        fresh = 0, torch.zeros(3, dtype=torch.float64, device=self.accelerator.device)
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
        self.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        self.curve = state["curve"]
        log.info("resumed after step %d", state["step"])
        return state["step"], state["sums"].to(fresh[1])


def _schedule(step: int, total: int, warmup: float) -> float:
    """The share of the learning rate at a step: up over the first `warmup` of all steps, then down to 0."""
    rising = max(1, round(warmup * total))
    return min((step + 1) / rising, (total - step) / max(1, total - rising + 1))


def _read_utterances(manifest_paths: list[str], label_paths: list[str]) -> list[tuple[str, str, str, np.ndarray]]:
    """(speaker id, path, SHA-256, labels of the frames) of the utterances of shards, in order of id."""
    utterances = []
    for manifest, path in zip(manifest_paths, label_paths, strict=True):
        labels = {row[0]: row[1:] for row in pseudo_labels.read_labels(path)}
        for utterance in read_manifest(manifest):
            if utterance.utterance_id in labels:
                _, digest, frames = labels[utterance.utterance_id]
                if digest != utterance.sha256:
                    raise DataError(f"{path}: the labels of {utterance.utterance_id} are of other audio; delete it")
                utterances.append((utterance.speaker_id, utterance.path, digest, frames))
    return utterances


def _select(utterances: list, rows: dict[str, list[int]]) -> list[Clip]:
    """Those long enough, with the rows of their speakers in the table; speakers of one batch have as many rows."""
    most = max(map(len, rows.values()), default=0)
    return [
        Clip(path, digest, labels, (rows[speaker] * most)[:most] if rows else [])
        for speaker, path, digest, labels in utterances
        if len(labels) >= SHORTEST
    ]


def _load_head(model: MaskedPrediction, path: Path, centroids: np.ndarray) -> bool:
    """Take over the prediction head of a base that was pre-trained on these very clusters; whether there was one."""
    if not path.exists():
        return False
    tensors, _ = read_tensors(path)
    if not np.array_equal(tensors["centroids"], centroids):
        return False
    state = {name: torch.from_numpy(tensors[name]) for name in sorted(HEAD_WEIGHTS & set(tensors))}
    if any(model.get_parameter(name).shape != tensor.shape for name, tensor in state.items()):
        return False
    model.load_state_dict(state, strict=False)
    return True


def _save_head(model: MaskedPrediction, centroids: np.ndarray, speakers: list[str], path: Path) -> None:
    """Write the clusters, the prediction head and, with PAPT, the vectors of the speakers in order of their ids."""
    state = {name: model.get_parameter(name).detach().float().cpu().numpy() for name in sorted(HEAD_WEIGHTS)}
    state["centroids"] = centroids
    if speakers:
        with torch.no_grad():
            vectors = model.speaker_vectors(torch.arange(len(speakers), device=model.table.device)[:, None])
        state["speaker_vectors"] = vectors.float().cpu().numpy()
    state = {name: np.ascontiguousarray(array) for name, array in state.items()}
    write_tensors(path, state, {"speakers": json.dumps(speakers)})
