import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["snakefmt", "--check", "Snakefile", "rules"],
        ["snakemake", "--lint"],
    ],
    ids=" ".join,
)
def test_style(command, tmp_path):
    """The workflow is linted on a copy of what it reads, so that the check leaves no results behind."""
    folder = ROOT
    if command[0] == "snakemake":
        command = [*command, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path)]
        for name in ("config.yaml", "demo"):
            (tmp_path / name).symlink_to(ROOT / name)
        folder = tmp_path
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
