"""What a bundle costs where it is used: a fresh environment with the runner alone, against the workflow's engine.

    python benchmarks/bundle.py                        # a random encoder of HuBERT-base's shape
    python benchmarks/bundle.py --encoder FOLDER       # an encoder in the workflow's form (results/encoders/NAME)

Prints the size of the environment, then of the runner, the workflow's engine and transformers, each in a process of its
own with one thread, on the same file: the time until the first score, seconds of audio a second, peak memory.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
for folder in ("workflow_scripts", "tests"):
    sys.path.insert(0, str(ROOT / folder))
SECONDS = 10  # of an utterance
MOST_MB = 400  # of the environment

RUNNER = """
import sys, time
start = time.perf_counter()
from ser_score import Scorer
from ser_score.audio import load
scorer = Scorer(sys.argv[1])
samples = load(sys.argv[2], scorer.bundle.limits)
scorer.score(samples)
first = time.perf_counter() - start
def run(): scorer.score(samples)
"""
ENGINE = """
import sys, time
start = time.perf_counter()
sys.path.insert(0, sys.argv[3])
from ser.audio.decode import load
from ser.encoders.engine import Encoder
encoder = Encoder(sys.argv[1], "cpu", 1)
samples, _ = load(sys.argv[2], 0.1, 600, -80)
encoder.embed([samples])
first = time.perf_counter() - start
def run(): encoder.embed([samples])
"""
TRANSFORMERS = """
import sys, time
start = time.perf_counter()
import librosa, torch
from transformers import HubertModel, Wav2Vec2FeatureExtractor
torch.set_num_threads(1)
model = HubertModel.from_pretrained(sys.argv[1]).eval()
extractor = Wav2Vec2FeatureExtractor.from_pretrained(sys.argv[1])
samples, _ = librosa.load(sys.argv[2], sr=16000)
@torch.inference_mode()
def run():
    values = extractor(samples, sampling_rate=16000, return_tensors="pt").input_values
    [state.mean(1) for state in model(values, output_hidden_states=True).hidden_states]
run()
first = time.perf_counter() - start
"""
MEASURE = """
import json
times = []
for _ in range(3):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
with open("/proc/self/status") as file:  # rusage has the peak of the process that started this one, too
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
print(json.dumps({"first_s": first, "real_time": len(samples) / 16000 / min(times), "peak_mb": peak}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bundle, encoder = make(folder, options.encoder)
        python = install(folder)
        speech = folder / "speech.wav"
        soundfile.write(speech, np.random.default_rng(0).normal(0, 0.05, SECONDS * 44_100), 44_100)
        cases = {
            "the runner": (python, RUNNER, bundle),
            "the workflow's engine": (sys.executable, ENGINE, encoder),
            "librosa and transformers": (sys.executable, TRANSFORMERS, encoder),
        }
        print(f"bundle: {bundle.stat().st_size / 1e6:.0f} MB; one thread, {SECONDS} s at 44.1 kHz")
        print("| | until the first score | seconds of audio a second | peak memory |\n|---|---|---|---|")
        for name, (interpreter, script, first) in cases.items():
            found = measure(interpreter, script + MEASURE, first, speech)
            print(f"| {name} | {found['first_s']:.1f} s | {found['real_time']:.1f} | {found['peak_mb']:.0f} MB |")


def make(folder: Path, encoder: Path | None) -> tuple[Path, Path]:
    """A bundle with two heads, and its encoder's folder."""
    import made_bundle
    import made_results

    if encoder is None:
        made_bundle.ENCODER = {}  # transformers' defaults: HuBERT-base
        encoder = made_bundle.make_encoder(folder / "base")
    width = json.loads((encoder / "config.json").read_text())["hidden_size"]
    made_results.WIDTH = made_bundle.WIDTH = width
    bundle = made_bundle.make_small_bundle(folder / "made", encoder=encoder)
    return bundle, encoder


def install(folder: Path) -> str:
    """A fresh environment with the runner; its Python."""
    environment, start = folder / "environment", time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    source = shutil.copytree(ROOT / "runner", folder / "runner")  # where building leaves what it makes
    subprocess.run([environment / "bin/pip", "install", "-q", source], check=True)
    size = sum(path.lstat().st_size for path in environment.rglob("*")) / 1e6
    print(f"environment: {size:.0f} MB (at most {MOST_MB}), installed in {time.perf_counter() - start:.0f} s")
    return str(environment / "bin/python")


def measure(python: str, script: str, first: Path, speech: Path) -> dict:
    command = [python, "-c", script, first, speech, ROOT / "workflow_scripts"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
