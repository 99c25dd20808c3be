"""Settings as users give them: which files the config is, and what is known before any work."""

import os
import subprocess
import sys
import sysconfig
import venv

import pytest
import yaml
from project import Project

MINE = {
    "corpus": {"folder": "corpus"},
    "encoders": {"other": {"base": "encoders/plain"}},
    "ablations": [{"name": "a"}],
    "baseline": "a",
    "evaluation": {"min_utterances": 2},
}
MODULE = """
module ser:
    snakefile: "{snakefile}"

use rule * from ser as ser_*
"""
TARGETS = ["results/models/a/seed-3/model.keras", "results/labels/test.parquet"]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project without results, whose config.yaml is another than MINE and has keys that MINE leaves out."""
    project = Project(tmp_path_factory.mktemp("settings") / "project").make()
    (project.folder / "mine.yaml").write_text(yaml.safe_dump(MINE))
    return project


def plan(project, *arguments, **options):
    """The jobs, under the workflow's own names, and what Snakemake said."""
    done = project.run("--dry-run", *arguments, "--", *TARGETS, **options)
    return {job.removeprefix("ser_") for job in project.reasons}, done.stdout + done.stderr


def test_a_config_that_is_named_stands_in_the_place_of_the_folder_s_own(fresh):
    """What it leaves out is the schema's default and not the other file's: encoders, seeds, shards (2 there)."""
    mine = fresh.folder / "mine.yaml"
    jobs, said = plan(fresh, "--configfile", mine)
    assert "The config is mine.yaml alone, without config.yaml." in said
    embedded = {job for job in jobs if job.startswith("embed_shard")}
    assert {job.split()[1] for job in embedded} == {"other"}
    shards = {job.split()[3] for job in embedded if " train " in job}
    assert {"031", "060"} <= shards and not {"000", "001"} & shards
    # Over the folder's own where that is named too, the values of --config over both; here in a module that has no
    # config of its own, which reads what its user names.
    (fresh.folder / "over.yaml").write_text("ablations: [{name: a, encoder: plain}]\nbaseline: a\n")
    both = [fresh.work / "config.yaml", fresh.folder / "over.yaml"]
    outer = fresh.work / "Snakefile"
    outer.write_text(MODULE.format(snakefile=fresh.checkout / "Snakefile"))
    jobs, said = plan(fresh, "--configfile", *both, "--config", "seeds=[3]", snakefile=outer)
    assert {"train_ablation a", "embed_shard plain train 001"} <= jobs and "without config.yaml" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config", "encoders={plain: {frames_layer: 30}}", "--", *TARGETS],
            "frames_layer is 30, but encoder 'plain' has",
        ),
        (["--config", "evaluation={min_utterances: 9}", "--", *TARGETS], "no validation speaker has 9 utterances"),
        (["--", "results/tuning/base.csv"], "results/tuning/base: the config has no section tuning"),
    ],
)
def test_what_cannot_be_is_known_while_planning(fresh, arguments, message):
    done = fresh.run("--dry-run", *arguments, check=False)
    assert done.returncode and message in done.stdout + done.stderr


def test_python_may_lie_under_a_path_with_a_space(fresh, tmp_path):
    """A script's Python, and that of a group's job, which reads the workflow again: with the config that was named."""
    place = tmp_path / "my projects" / "venv"
    venv.create(place, symlinks=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)})
    with open(os.path.join(packages, "those of this one.pth"), "w", encoding="utf-8") as file:
        file.writelines(f"{path}\n" for path in sys.path if path.endswith("-packages"))
    command = [place / "bin" / "python", "-m", "snakemake", "--snakefile", fresh.checkout / "Snakefile"]
    command += ["--directory", fresh.work, "--configfile", fresh.folder / "mine.yaml", "--cores", "1"]
    command += ["--groups", "build_labels=one", "--", "results/labels/test.parquet"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (fresh.work / "results/labels/test.parquet").is_file()
