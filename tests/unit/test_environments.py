"""The conda environments, the locked requirements and the imports of the library belong together."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "workflow_scripts")}
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
# what a module is called where it is installed, where that differs from its import
PACKAGES = {
    "google": "protobuf",
    "google_crc32c": "google-crc32c",
    "vl_convert": "vl-convert-python",
    "yaml": "PyYAML",
}


def read_pins(path):
    lines = path.read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))


def pins_of(environment):
    (pip,) = [part["pip"] for part in yaml.safe_load(environment.read_text())["dependencies"] if isinstance(part, dict)]
    return dict(pin.lower().split("==") for pin in pip)


def test_every_requirement_is_locked():
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = [line for line in (ROOT / "envs" / name).read_text().splitlines() if not line.startswith("#")]
        assert lines and all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.]+", line) for line in lines)


def test_the_lock_is_what_is_installed():
    locked = read_pins(ROOT / "envs" / "requirements.txt")
    for name, version in locked.items():
        assert importlib.metadata.version(name).split("+")[0] == version, f"{name}: run pip install again"


def test_the_hashes_are_those_of_the_lock():
    """Every package but torch, of which pip takes one of two builds: see the head of the file for the command."""
    text = (ROOT / "envs" / "requirements-hashes.txt").read_text()
    packages = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M)
    assert len(packages) == len(re.findall("^[^# ]", text, re.M))
    named = {re.sub("[-_.]+", "-", name).lower(): version for name, version, _ in packages}
    locked = read_pins(ROOT / "envs" / "requirements.txt")
    locked = {re.sub("[-_.]+", "-", name): version for name, version in locked.items()}
    assert named == {name: version for name, version in locked.items() if name != "torch"}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_carry_the_pins_of_the_lock(environment):
    names = ["requirements.txt", *(["requirements-egemaps.txt"] if environment.stem == "egemaps" else [])]
    locked = {name: version for each in names for name, version in read_pins(ROOT / "envs" / each).items()}
    pins = pins_of(environment)
    assert pins and {name: locked.get(name) for name in pins} == pins


def imports_of(path):
    """What a file imports at once; what a function imports is for those who call it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("rules", sorted((ROOT / "rules").glob("*.smk")), ids=lambda path: path.name)
def test_a_rules_environment_has_what_its_script_imports(rules):
    from ser.tracing.sources import find_sources

    text = rules.read_text()
    text = text.replace("        measuring_environment\n", '        "../envs/encoder.yaml"\n')  # the other is below
    scripts = re.findall(r'conda:\s+"\.\./envs/(\w+)\.yaml".*?script:\s+"\.\./workflow_scripts/(\w+\.py)"', text, re.S)
    assert len(scripts) == len(re.findall(r"^\s+script:$", text, re.M)), "each rule with a script names an environment"
    for environment, script in scripts:
        pins = pins_of(ROOT / "envs" / f"{environment}.yaml")
        for source in find_sources(ROOT / "workflow_scripts" / script):
            for module in set(imports_of(Path(source))) - set(sys.stdlib_module_names) - {"ser"}:
                package = PACKAGES.get(module, module).lower()
                assert package in pins, f"{script} imports {module} ({source}), which envs/{environment}.yaml lacks"


def test_egemaps_environment_has_what_measuring_imports_without_a_model():
    code = "import sys, ser.log, ser.speakers.measure; print(*(each.__file__ for each in sys.modules.values() if "
    code += "each.__name__.startswith('ser.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    sources = [path for path in done.stdout.split() if path.startswith(str(ROOT))]
    modules = {module for path in sources for module in imports_of(Path(path))} - set(sys.stdlib_module_names) - {"ser"}
    pins = pins_of(ROOT / "envs" / "egemaps.yaml")
    packages = {PACKAGES.get(module, module).lower() for module in modules}
    assert "numpy" in packages and packages | {"opensmile"} <= set(pins)
