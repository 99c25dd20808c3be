"""Where results come from, as far as only the run itself can say: its config, code, package versions and commit."""

import importlib.metadata
import platform
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ser.files import DataError, name_path, read_json, sha256, write_json
from ser.tracing.sources import find_sources

WORKFLOW = Path(__file__).parents[3]
NAME = "provenance.json"
TABLE = "ablation_table.csv"
_PARTS = {"config", "ablations", "code", "packages", "python", "git"}


def record_provenance(
    config: dict,
    ablations: dict,
    scripts: Iterable[str],
    table: str | Path,
    path: str | Path,
    beside: Iterable[str | Path] = (),
) -> None:
    """Write what made the tables: `config`, `ablations`, `code`, `packages`, `python`, `git`, and which table it was.

    No times and no names of machines: the same study by the same code gives the same file.

    Args:
        config: with its defaults filled in; `ablations` are those of it as `config.resolve_ablations` returns them
        scripts: names of the workflow's scripts that the tables depend on
        table: the ablation table, of which `table_sha256` is kept
        beside: other tables; `tables` has the SHA-256 of all by name
    """
    write_json(
        path,
        {
            "config": name_paths(config),
            "ablations": ablations,
            "code": digest_code(scripts),
            "packages": list_packages(),
            "python": platform.python_version(),
            "git": describe_commit(WORKFLOW),
            "table_sha256": sha256(table),
            "tables": {Path(each).name: sha256(each) for each in (table, *beside)},
        },
    )


def name_paths(config: dict) -> dict:
    """A config with the folders that it names as results that are passed on have them."""
    named = dict(config)
    places = {"encoders": ["base"], "pseudo_labels": ["centroids"], "speaker_vectors": ["model", "file"]}
    for section in set(places) & set(config):
        named[section] = {
            name: options | {key: name_path(options[key]) for key in places[section] if options.get(key)}
            for name, options in config[section].items()
        }
    if "corpus" in config:
        paths = {
            key: name_path(config["corpus"][key]) for key in ("folder", "speaker_splits") if key in config["corpus"]
        }
        named["corpus"] = config["corpus"] | paths
    return named


def read_provenance(results: Path) -> dict:
    """The provenance of a results folder's table; a DataError says how to make both if one is missing or another's.

    A target that is less than everything makes the table and leaves the provenance of an earlier one.
    """
    path, table = results / NAME, results / TABLE
    for file in (table, path):
        if not file.is_file():
            raise DataError(f"{file}: is not there; make it with: {command_for([path], results)}")
    made = read_json(path)
    if not isinstance(made, dict) or not set(made) >= _PARTS:
        raise DataError(f"{path}: is no provenance of a run; delete it and run again")
    if made.get("table_sha256") != sha256(table):
        raise DataError(
            f"{path}: is of another table than {table} is now, so that config and code of this one are not known; "
            f"make it with: {command_for([path], results)}"
        )
    return made


def digest_code(scripts: Iterable[str]) -> dict[str, dict[str, str]]:
    """The SHA-256 of each script and of the library modules it uses: `{script: {path in the workflow: digest}}`."""
    folder = WORKFLOW / "workflow_scripts"
    found = {script: sorted(Path(path).resolve() for path in find_sources(folder / script)) for script in scripts}
    root = WORKFLOW.resolve()
    return {
        script: {path.relative_to(root).as_posix(): sha256(path) for path in paths}
        for script, paths in sorted(found.items())
    }


def list_packages() -> dict[str, str]:
    """The versions of the locked packages: what is installed here, or the locked version where it is not.

    In a conda environment of one rule only a part is installed; the other rules' environments have the locked versions.
    """
    lines = (WORKFLOW / "envs" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {name: _find_version(name) or version for name, version in locked.items()}


def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe_commit(folder: Path) -> dict | None:
    """The git commit of the workflow and whether its files differ from it; None where git does not know it."""
    if _ask_git(folder, "ls-files", "--error-unmatch", "Snakefile") is None:
        return None
    changed = _ask_git(folder, "status", "--porcelain", "--", "Snakefile", "rules", "workflow_scripts", "envs")
    return {"commit": _ask_git(folder, "rev-parse", "HEAD"), "dirty": bool(changed)}


def _ask_git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def command_for(paths: Iterable[Path], results: Path) -> str:
    """The command line that makes files of a results folder."""
    folder = results.resolve().parent
    # Not resolved one by one: a link in the results stays the name of a result. A name like an option is none.
    names = [f"{results.resolve().name}/{path.relative_to(results).as_posix()}" for path in paths]
    command = ["snakemake", "--snakefile", WORKFLOW / "Snakefile", "--directory", folder, "--cores", 2, *names]
    return shlex.join(map(str, command))
