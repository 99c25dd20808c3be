"""The runner where it is used: installed into a fresh environment, which has nothing of the workflow."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_bundle import speak

from ser_score import Scorer

RUNNER = Path(__file__).parents[2] / "runner"
MOST_MB = 400

pytestmark = pytest.mark.long


def test_a_fresh_environment_scores_the_same(small_bundle, tmp_path):
    environment, source = tmp_path / "environment", tmp_path / "runner"
    shutil.copytree(RUNNER, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    done = subprocess.run([environment / "bin/pip", "install", "-q", source], capture_output=True, text=True)
    if "NewConnectionError" in done.stderr or "NameResolutionError" in done.stderr:
        pytest.skip("no network to install from")
    assert done.returncode == 0, done.stderr
    size = sum(path.lstat().st_size for path in environment.rglob("*")) / 1e6
    assert size < MOST_MB
    wave = speak(2)
    soundfile.write(tmp_path / "speech.flac", wave, 16_000)
    command = [environment / "bin/ser-score", small_bundle, tmp_path / "speech.flac", "--json", "--quiet"]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (score,) = json.loads(done.stdout)["scores"]
    samples, _ = soundfile.read(tmp_path / "speech.flac", dtype="float32")
    expected = Scorer(small_bundle).score(samples)
    found = [score["scores"][target]["score"] for target in expected.targets]
    np.testing.assert_allclose(found, expected.values, atol=1e-3)  # other versions of the libraries, of a range of 6
