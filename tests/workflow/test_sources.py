"""A rule depends on exactly the library modules that its script uses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ser.tracing.sources import find_sources

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"
RULES = SCRIPTS.parent / "rules"
# Everything that each script imports, but not what it then calls. Stand-ins for the frameworks: to import these takes
# seconds, and TensorFlow before torch ends the process with some builds.
LIST_MODULES = """
import ast, json, sys
from importlib.machinery import ModuleSpec

class Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

class Thing(metaclass=Anything):
    def __init__(self, *args, **kwargs):
        pass
    def __call__(self, decorated):
        return decorated

class StandIn(type(sys)):
    def __getattr__(self, name):
        return getattr(Thing, name)

class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        heavy = name.split(".")[0] in ("accelerate", "keras", "tensorflow", "torch", "transformers")
        return ModuleSpec(name, Finder, is_package=True) if heavy else None
    @staticmethod
    def create_module(spec):
        return StandIn(spec.name)
    @staticmethod
    def exec_module(module):
        pass

sys.meta_path.insert(0, Finder)
found = {}
for script in sys.argv[1:]:
    tree = ast.parse(open(script).read())
    tree.body = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(tree, script, "exec"), {})
    modules = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "ser"}
    found[script] = [module.__file__ for module in modules.values()]
print(json.dumps(found))
"""
# What is imported where there is work for it.
LAZY = dict.fromkeys(["fit_clusters.py", "label_frames.py"], "encoders/engine.py")
LAZY |= {"embed_shard.py": "encoders/opening.py", "measure_vectors.py": "speakers/xvector.py"}


@pytest.fixture(scope="module")
def imported():
    """The modules that Python imports, by script."""
    command = [sys.executable, "-c", LIST_MODULES, *sorted(SCRIPTS.glob("*.py"))]
    done = subprocess.run(command, env={"PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_sources_are_what_python_imports(imported, script):
    lazy = find_sources(SCRIPTS / "ser" / LAZY[script]) if script in LAZY else []
    lazy = {str(Path(path).resolve()) for path in lazy}
    found = {str(Path(path).resolve()) for path in find_sources(SCRIPTS / script)} - {str(SCRIPTS / script)}
    modules = {path for path in imported[str(SCRIPTS / script)] if not path.endswith("__init__.py")}  # a line each
    assert found == modules | lazy


@pytest.mark.parametrize("path", sorted(RULES.glob("*.smk")), ids=lambda path: path.stem)
def test_a_rule_depends_on_the_script_that_it_runs(path):
    named = re.compile(r"library\(\"(.+?)\"\)|\*([A-Z]+_CODE)\b|script:\s+\"\.\./workflow_scripts/(.+?)\"")
    text = path.read_text(encoding="utf-8")
    code = dict(re.findall(r"^([A-Z]+_CODE) = library\(\"(.+?)\"\)", text, re.MULTILINE))
    for rule in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]:
        found = [(depends or code.get(constant), runs) for depends, constant, runs in named.findall(rule)]
        if any(runs for _, runs in found) and not rule.startswith("prune"):
            (depends, _), (_, runs) = found
            assert depends == runs, rule.partition(":")[0]
