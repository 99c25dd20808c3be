"""A rule depends on exactly the library modules that its script uses."""

import subprocess
import sys
from pathlib import Path

import pytest

from ser.sources import find_sources

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"
