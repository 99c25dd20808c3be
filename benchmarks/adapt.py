"""Time and memory of adaptive pre-training: a step against a forward pass, and what a true corpus would take.

    python benchmarks/adapt.py [--shapes base large] [--seconds 10] [--threads 2]

A step is `ser.masked_prediction` forward and backward with Adam, on made-up audio, in float32; the baseline is the
forward pass alone in the same run. The last line is an estimate: the measured step here, and for a GPU hours of audio x
epochs x 3 x FLOPs a second of audio (a backward pass has twice those of a forward), over a share of the published peak.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow_scripts"), str(ROOT / "demo"), str(ROOT / "benchmarks")]

import make_encoder  # noqa: E402
from embed import count_flops  # noqa: E402
from transformers import HubertConfig, HubertModel  # noqa: E402

from ser.adaptation.masked_prediction import MaskedPrediction  # noqa: E402

GPU_PEAK, GPU_SHARE = 989e12, 0.35  # H100 SXM, dense bfloat16 (NVIDIA's data sheet); a usual share in training
HOURS, EPOCHS = 44.2, 10  # MSP-Podcast 1.6's training split, and the paper's epochs
CLIP = 5  # seconds


def measure(shape: str, seconds: int, threads: int, repetitions: int) -> None:
    """Print the figures of one shape; run in a process of its own, for its peak memory."""
    torch.set_num_threads(threads)
    config = HubertConfig(**make_encoder.SHAPES[shape])
    model = MaskedPrediction(HubertModel(config), clusters=500, speakers=1000)
    optimizer = torch.optim.Adam(model.parameters(), 1e-5)
    n_frames = (CLIP * 16_000 - 400) // 320 + 1
    waves = torch.randn(max(1, seconds // CLIP), CLIP * 16_000)
    batch = {
        "waves": waves,
        "mask": torch.rand(len(waves), n_frames) < 0.5,
        "labels": torch.randint(500, (len(waves), n_frames)),
        "speakers": torch.randint(1000, (len(waves), 1)),
    }

    def forward():
        with torch.no_grad():
            model(**batch)

    def step():
        model(**batch)[0].backward()
        optimizer.step()
        optimizer.zero_grad()

    times = {}
    for name, run in {"forward": forward, "step": step}.items():
        run()
        taken = []
        for _ in range(repetitions):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
        times[name] = median(taken)
    audio = len(waves) * CLIP
    flops = count_flops(config.to_dict(), CLIP * 16_000) / CLIP  # of a forward pass, a second of audio
    parameters = sum(p.numel() for p in model.parameters())
    ratio = times["step"] / times["forward"]
    print(f"{shape}: {parameters / 1e6:.1f} million parameters, {flops / 1e9:.1f} GFLOP a second of audio")
    print(f"  step {audio / times['step']:6.2f} s of audio a second, forward {audio / times['forward']:.2f}", end="; ")
    print(f"step / forward {ratio:.2f}; {flops * audio / times['forward'] / 1e9:.0f} GFLOP/s forward")
    peak, state = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, parameters * 16 / 1e9
    print(f"  peak memory {peak:.1f} GB with {audio} s a batch; weights, gradients and Adam {state:.1f} GB")
    heard = HOURS * 3600 * EPOCHS
    total, days = 3 * flops * heard, heard * times["step"] / audio / 86400
    hours = total / GPU_PEAK / GPU_SHARE / 3600
    print(f"  estimate, {HOURS} h x {EPOCHS} epochs: {total / 1e18:.2f} EFLOP; here {days:.1f} days;", end=" ")
    print(f"at {GPU_SHARE:.0%} of an H100's {GPU_PEAK / 1e12:.0f} TFLOP/s {hours:.2f} h")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=make_encoder.SHAPES, default=["base", "large"])
    parser.add_argument("--seconds", type=int, default=10, help="of audio in a batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    for shape in options.shapes:
        if len(options.shapes) == 1:
            measure(shape, options.seconds, options.threads, options.repetitions)
        else:
            arguments = ["--shapes", shape, "--seconds", options.seconds, "--threads", options.threads]
            command = [sys.executable, __file__, *map(str, arguments), "--repetitions", str(options.repetitions)]
            subprocess.run(command, check=True)
