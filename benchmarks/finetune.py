"""Fine-tuning against the loop that a user would write, and its peak memory at small and large batches.

    python benchmarks/finetune.py [--shape small] [--utterances 16] [--repetitions 2] [--threads 2]

The loop is transformers' HubertModel on padded batches of 8 in random order, its convolutional front frozen, 1 - CCC of
each batch; both train the whole encoder with a small head on the same made-up waves of 3 to 11 s, in float32, forward
and backward. Here a batch is what `--batch` says, in one pass and in parts of `--part` seconds, which are computed
twice. The limit is the fastest product of two 2048 x 2048 matrices in the same run. Peak memory is of a process of its
own for each batch, with the demo's encoder and parts of 20 s.

On a machine that others use too, `--threads 1` counts this process's processor seconds, which they do not change.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from transformers import HubertConfig, HubertModel

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow_scripts"), str(ROOT / "demo"), str(ROOT / "benchmarks")]

import make_encoder  # noqa: E402
from embed import count_flops  # noqa: E402

from ser.finetuning.gradient_caching import backpropagate, split_parts  # noqa: E402
from ser.finetuning.joint_model import JointModel  # noqa: E402
from ser.finetuning.loss import ccc_loss  # noqa: E402

RATE, FRAMES = 16_000, 50
OFF = {"layerdrop": 0.0, "apply_spec_augment": False}


def make_waves(count: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.standard_normal(int(rng.uniform(3, 11) * RATE), np.float32)) for _ in range(count)]


def make_model(shape: str) -> HubertModel:
    torch.manual_seed(0)
    return HubertModel(HubertConfig(**make_encoder.SHAPES[shape] | OFF))


def make_head(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 3))


class Head(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layers = make_head(width)

    def forward(self, item: dict) -> torch.Tensor:
        return self.layers(item["features"])


def run_script(model: HubertModel, head: nn.Module, waves: list[torch.Tensor], labels: torch.Tensor) -> None:
    """Padded batches of 8, one loss a batch; the mean over each utterance's own frames."""
    model.train()
    model.feature_extractor._freeze_parameters()
    order = np.random.default_rng(1).permutation(len(waves))
    for rows in np.array_split(order, max(1, len(order) // 8)):
        lengths = torch.tensor([len(waves[row]) for row in rows])
        padded = nn.utils.rnn.pad_sequence([waves[row] for row in rows], batch_first=True)
        mask = torch.arange(padded.shape[1])[None] < lengths[:, None]
        x = model(padded, attention_mask=mask.long()).last_hidden_state
        own = model._get_feature_vector_attention_mask(x.shape[1], mask.long())[..., None]
        loss = ccc_loss(labels[rows], head((x * own).sum(1) / own.sum(1)), torch.ones(len(rows)))
        loss.backward()


def run_here(model: JointModel, waves: list[torch.Tensor], labels: torch.Tensor, batch: int, part: float) -> None:
    model.train()
    for first in range(0, len(waves), batch):
        parts = [model.prepare(wave) for wave in waves[first : first + batch]]
        groups = split_parts([p.n_frames for p in parts], int(part * FRAMES))
        own = labels[first : first + batch][[row for group in groups for row in group]]

        def finish(encoded, own=own):
            return ccc_loss(own, model.head({"features": encoded}), torch.ones(len(own)))

        groups = [[parts[row] for row in group] for group in groups]
        backpropagate(lambda group: model.features(group)["features"], finish, groups, 1)


def measure_product(clock) -> float:
    """FLOP/s of the fastest of ten products."""
    a = torch.randn(2048, 2048)
    taken = []
    for _ in range(10):
        start = clock()
        a @ a
        taken.append(clock() - start)
    return 2 * 2048**3 / min(taken)


def compare(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    waves = make_waves(options.utterances)
    labels = torch.from_numpy(np.random.default_rng(2).uniform(1, 7, (len(waves), 3)).astype(np.float32))
    seconds = sum(map(len, waves)) / RATE
    plain = make_model(options.shape)
    width = plain.config.hidden_size
    head = make_head(width)
    settings = {"method": "whole", "gradient_checkpointing": False}
    joint = JointModel(make_model(options.shape), Head(width), settings)
    runs = {
        "script": lambda: run_script(plain, head, waves, labels),
        "one pass": lambda: run_here(joint, waves, labels, options.batch, 1e9),
        "in parts": lambda: run_here(joint, waves, labels, options.batch, options.part),
    }
    taken = {name: [] for name in runs}
    for _ in range(options.repetitions):
        for name, run in runs.items():
            plain.zero_grad()
            joint.zero_grad()
            start = clock()
            run()
            taken[name].append(clock() - start)
    flops = sum(count_flops(plain.config.to_dict(), len(wave)) for wave in waves)
    product = measure_product(clock)
    print(f"{options.shape}, {len(waves)} waves, {seconds:.0f} s of audio, {options.threads} threads")
    for name, times in taken.items():
        speed, ratio = seconds / median(times), median(taken["script"]) / median(times)
        print(f"  {name:9} {speed:6.2f} s of audio a second, {ratio:.2f} x the script")
    share = 3 * flops / median(taken["one pass"]) / product
    print(f"  one pass: {share:.2f} of the machine's matrix product, if each backward pass is two forward ones")


def measure_memory(batch: int) -> None:
    """Print the peak memory of one step; in a process of its own."""
    torch.set_num_threads(1)
    waves, width = make_waves(batch), make_encoder.SHAPES["small"]["hidden_size"]
    labels = torch.rand(batch, 3)
    model = JointModel(make_model("small"), Head(width), {"method": "whole", "gradient_checkpointing": False})
    run_here(model, waves, labels, batch, 20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    held = sum(wave.nbytes for wave in waves) / 1e9
    print(f"  batch {batch:4}: peak memory {peak:.2f} GB, of which the waves {held:.2f} GB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=make_encoder.SHAPES, default="small")
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--part", type=float, default=30, help="seconds of audio")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", type=int, help="of one step with a batch of so many, and nothing else")
    options = parser.parse_args()
    if options.memory:
        measure_memory(options.memory)
    else:
        compare(options)
        for batch in (32, 128):
            subprocess.run([sys.executable, __file__, "--memory", str(batch)], check=True)
