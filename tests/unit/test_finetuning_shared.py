"""Fine-tuning: what several processes share, and what is computed once for all epochs."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from made_corpus import write_utterance
from torch import nn
from transformers import HubertConfig, HubertModel

from ser.config.ablation import Ablation
from ser.files import sha256
from ser.finetuning.joint_model import JointModel
from ser.finetuning.memory_bank import make_banks
from ser.finetuning.task import Clip, FineTuning
from ser.optimisation.trainer import Trainer, make_accelerator

WIDTH, TARGETS = 16, ["valence", "arousal"]
AUDIO = {"min_seconds": 0.1, "max_seconds": 60, "silence_db": -80}
SETTINGS = {
    **{"epochs": 2, "patience": 3, "batch_size": 9, "learning_rate": 3e-3, "head_learning_rate": 1e-2},
    **{"weight_decay": 1e-4, "warmup": 0.0, "clip": 1, "crop_seconds": 1.0, "micro_batch_seconds": 1.5},
    **{"gradient_checkpointing": False, "checkpoint_steps": 100, "seed": 1, "accumulate": 1},
}
METHODS = [{"method": "whole"}, {"method": "top", "layers": 1}]
STEPS = [  # method, what the head reads, and how it is normalised
    (METHODS[0], "last", None),
    (METHODS[0], "last", "speaker"),
    ({"method": "lora", "rank": 2}, "frames", None),
]


class Head(nn.Module):
    """With the batch's own statistics and speakers for pooled features; of frames a mean."""

    def __init__(self, frames):
        super().__init__()
        self.frames, self.out = frames, nn.Linear(WIDTH, 2)
        self.norm = None if frames else nn.BatchNorm1d(WIDTH)

    def forward(self, item):
        x = item["features"]
        if self.frames:
            x = torch.stack([row[: int(n)].mean(0) for row, n in zip(x, item["n_frames"], strict=True)])
            return self.out(x) + 4
        return self.out(self.norm(x + item["speaker"].mean(1, keepdim=True))) + 4


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder, clips = tmp_path_factory.mktemp("audio"), {}
    for split, count in (("train", 18), ("validation", 5)):
        rng, clips[split] = np.random.default_rng(len(split)), []
        for number in range(count):
            labels, seconds = rng.uniform(1, 7, 3), 0.4 + 0.1 * (number % 4)
            path = folder / f"{split}{number}.wav"
            write_utterance(path, labels, 0.5, seed=number, seconds=seconds)
            mfcc = rng.standard_normal(13).astype(np.float32)
            clip = Clip(
                f"u{number}", "s", str(path), sha256(path), seconds, labels[:2].astype(np.float32), speaker=mfcc
            )
            clips[split].append(clip)
    return clips


def make_task(clips, method=METHODS[0], reads="last", normalise=None, memory=0.0):
    AcceleratorState._reset_state(True)
    torch.manual_seed(0)
    config = HubertConfig(
        **{"conv_dim": [8] * 7, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"intermediate_size": 32, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
        **dict.fromkeys(["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"], 0.0),
    )
    settings = SETTINGS | method
    model = JointModel(HubertModel(config), Head(reads == "frames"), settings, reads)
    accelerator = make_accelerator("cpu", "float32")
    banks = make_banks(Ablation("e", layer=-1, normalise=normalise), clips, config, 1)
    return FineTuning(model, clips, settings, AUDIO, True, TARGETS, accelerator, memory, banks)


def take_step(clips, method, reads, normalise):
    """The gradients of the first step, and the sums over a validation split, of this process."""
    task = make_task(clips, method, reads, normalise)
    task.measure_features()
    task.model.train()
    torch.manual_seed(5 + task.accelerator.process_index)
    plan = task.plan(0)
    sums = task.learn(task.model, [next(task.load(plan, 0, len(plan)))])
    gradients = {name: p.grad.clone() for name, p in task.model.named_parameters() if p.grad is not None}
    task.model.eval()
    with torch.no_grad():
        moments = task.accelerator.reduce(task.evaluate(task.model))
    return gradients, task.summarise(sums.tolist()) + task.summarise(moments.tolist())


def run_loop(task, folder):
    """The curve and the weights of a whole run."""
    run = Trainer(task, task.settings, task.accelerator, folder / "c.pt", "this", folder / "t", decays=False)
    run.train()
    return run.curve, task.model.state_dict()


def write_step(clips, folder):
    """Of one of two processes."""
    torch.save(run_loop(make_task(clips), folder)[0], folder / f"curve-{torch.distributed.get_rank()}.pt")
    for number, case in enumerate(STEPS):
        torch.save(take_step(clips, *case), folder / f"{number}-{torch.distributed.get_rank()}.pt")


TWO_PROCESSES = """
import pickle, sys
from accelerate import debug_launcher
from test_finetuning_shared import write_step

debug_launcher(write_step, pickle.loads(bytes.fromhex(sys.stdin.read())), 2)
"""


@pytest.mark.long
def test_two_processes_take_the_step_of_one(clips, tmp_path):
    """Gloo on a CPU, no dropout; float32 sums in another order: 1e-5 of the norm."""
    # in a Python of its own: processes that are forked after torch's threads have started may wait for ever
    places = [str(Path(__file__).parents[i] / name) for i, name in ((0, ""), (1, ""), (2, "workflow_scripts"))]
    subprocess.run(
        [sys.executable, "-c", TWO_PROCESSES],
        input=pickle.dumps((clips, tmp_path)).hex(),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        text=True,
        check=True,
        timeout=300,
    )
    (curve, _), *others = (
        run_loop(make_task(clips), tmp_path),
        *(torch.load(tmp_path / f"curve-{i}.pt") for i in (0, 1)),
    )
    for row, *own in zip(curve, *others, strict=True):  # AdamW makes steps of rounding where a gradient is nearly 0
        assert all(other[key] == pytest.approx(row[key], abs=2e-3) for other in own for key in ("step", "loss", "ccc"))
    for number, case in enumerate(STEPS):
        expected, measures = take_step(clips, *case)
        norm = sum(g.double().square().sum() for g in expected.values()).sqrt()
        for rank in (0, 1):
            found, others = torch.load(tmp_path / f"{number}-{rank}.pt")
            assert found.keys() == expected.keys() and others == pytest.approx(measures, abs=1e-5)
            apart = sum((found[n] - expected[n]).double().square().sum() for n in expected).sqrt()
            assert norm > 1e-3 and apart / norm < 1e-5, (case, rank)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["method"])
def test_what_nothing_changes_is_computed_once_where_it_fits(clips, tmp_path, monkeypatch, method):
    """And the weights are the same."""
    found, prepared, prepare = [], [], JointModel.prepare

    def count(model, *own):
        prepared[-1] += 1
        return prepare(model, *own)

    monkeypatch.setattr(JointModel, "prepare", count)
    for memory in (0, 1e9):
        prepared.append(0)
        task = make_task(clips, method, memory=memory)
        task.measure_features()
        found.append(run_loop(task, tmp_path / str(memory)))
    # 18 and 5 utterances: once for the statistics, then in two epochs, and validation before them too
    assert prepared == [3 * 18 + 3 * 5, 18 + 5]
    (curve, state), (other, others) = found
    assert curve == other and all(torch.equal(tensor, others[name]) for name, tensor in state.items())
