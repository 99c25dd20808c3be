"""What a run says of itself."""

import hashlib
import importlib.metadata
import subprocess
from pathlib import Path

from ser.files import read_json
from ser.tracing import provenance

ROOT = Path(__file__).parents[2]


def test_it_is_the_same_each_time_and_names_what_ran(tmp_path):
    (table := tmp_path / "table.csv").write_text("a,b\n")
    for name in ("a.json", "b.json"):
        provenance.record_provenance({"seeds": [1]}, {"base": {}}, ["score.py", "explain.py"], table, tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    made = read_json(tmp_path / "a.json")
    assert made["table_sha256"] == made["tables"]["table.csv"] == hashlib.sha256(b"a,b\n").hexdigest()
    assert list(made["code"]) == ["explain.py", "score.py"]
    assert {"workflow_scripts/score.py", "workflow_scripts/ser/statistics/ccc.py"} < set(made["code"]["score.py"])
    for name, digest in made["code"]["score.py"].items():
        assert digest == hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
    assert made["packages"]["numpy"] == importlib.metadata.version("numpy")


def test_a_package_that_is_not_here_has_its_locked_version(monkeypatch):
    def find_none(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", find_none)
    lines = (ROOT / "envs" / "requirements.txt").read_text().splitlines()
    expected = [line for line in lines if not line.startswith("#")]
    assert [f"{name}=={version}" for name, version in provenance.list_packages().items()] == expected


def test_a_folder_that_git_does_not_know(tmp_path, monkeypatch):
    (tmp_path / "Snakefile").touch()
    assert provenance.describe_commit(tmp_path) is None
    subprocess.run(["git", "-C", tmp_path, "init", "--quiet"], check=True)
    assert provenance.describe_commit(tmp_path) is None  # it is in a repository, but not of it
    monkeypatch.setenv("PATH", "")
    assert provenance.describe_commit(tmp_path) is None  # there is no git


def test_the_command_is_of_the_folder_that_holds_the_results(tmp_path):
    results = tmp_path / "results"
    command = provenance.command_for([results / "a.csv", results / "b" / "c.csv"], results)
    assert command.endswith(f"--directory {tmp_path} --cores 2 results/a.csv results/b/c.csv")


def test_no_absolute_path_is_recorded(tmp_path, monkeypatch):
    """What is passed on tells no names of users and projects: not in provenance, and so not in report and cards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").touch()
    config = {
        "corpus": {"folder": "/home/someone/secret/msp"},
        "encoders": {
            "a": {"base": f"{tmp_path}/encoders/a"},
            "b": {"base": "facebook/hubert"},
            "c": {"base": "/x/y/h"},
        },
        "pseudo_labels": {"p": {"centroids": "/home/someone/c"}, "q": {}},
    }
    provenance.record_provenance(config, {}, [], "table.csv", "provenance.json")
    made = read_json("provenance.json")["config"]
    assert made["corpus"]["folder"] == ".../msp"
    assert [encoder["base"] for encoder in made["encoders"].values()] == ["encoders/a", "facebook/hubert", ".../h"]
    assert made["pseudo_labels"] == {"p": {"centroids": ".../c"}, "q": {}}
    assert config["corpus"]["folder"].startswith("/home")  # the run's own stays
