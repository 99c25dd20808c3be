"""A rule depends on exactly the library modules that its script uses."""

import subprocess
import sys
from pathlib import Path

import pytest

from ser.sources import find_sources

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"
# Everything that the script imports, but not what it then calls.
LIST_MODULES = """
import ast, sys
tree = ast.parse(open(sys.argv[1]).read())
tree.body = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
exec(compile(tree, sys.argv[1], "exec"))
print(*(module.__file__ for name, module in sys.modules.items() if name.startswith("ser.")), sep="\\n")
"""
RUN_HUBERT = ("adapt_encoder.py", "embed_shard.py", "fit_clusters.py", "label_frames.py")  # where there is work for it


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_sources_are_what_python_imports(script):
    command = [sys.executable, "-c", LIST_MODULES, SCRIPTS / script]
    done = subprocess.run(command, env={"PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=True)
    lazy = {str(SCRIPTS / "ser" / "hubert.py")} if script in RUN_HUBERT else set()
    found = {str(Path(path).resolve()) for path in find_sources(SCRIPTS / script)} - {str(SCRIPTS / script)}
    assert found - {str(SCRIPTS / "ser" / "__init__.py")} == set(done.stdout.split()) | lazy
