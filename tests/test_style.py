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


def test_every_file_can_be_read_in_one_sitting():
    """None has more than 350 lines."""
    done = subprocess.run(["git", "ls-files", "*.py", "*.smk", "Snakefile"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is no git checkout")
    lines = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in done.stdout.splitlines()}
    assert lines and {name: n for name, n in lines.items() if n > 350} == {}
