"""A Python without locked packages is refused with a sentence, and every file that names a version names the same."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from ser.python_version import SERVED, explain_unserved

ROOT = Path(__file__).parents[2]
RANGE = ">={}.{},<{}.{}".format(*SERVED[0], SERVED[1][0], SERVED[1][1] + 1)


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 4, "final", 0), (3, 13, 9)])
def test_a_served_version(version):
    assert explain_unserved(version) == ""


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 10, 13, "final", 0), (3, 14, 0), (4, 0, 0)])
def test_another_version_is_told_which_are_served(version):
    expected = f"Python {version[0]}.{version[1]} is not served by envs/requirements.txt: 3.11 to 3.13 are"
    assert explain_unserved(version).startswith(expected)


def test_this_python_is_served():
    assert explain_unserved() == ""


def test_the_check_needs_nothing_that_may_be_missing():
    """It comes before imports that fail in an environment of another version."""
    command = [sys.executable, "-S", "-c", "import ser.python_version"]
    subprocess.run(command, cwd=ROOT / "workflow_scripts", check=True)


def test_every_file_names_the_same_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["requires-python"] == RANGE
    assert project["version"] == citation["version"]
    for path in (ROOT / "envs").glob("*.yaml"):
        (python,) = re.findall(r'- "?python *([^"\n]+)', path.read_text(encoding="utf-8"))
        assert python == RANGE, path.name
