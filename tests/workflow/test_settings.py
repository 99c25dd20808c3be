"""Settings as users give them: which files the config is, and what is known before any work."""

import pytest
import yaml
from project import Project

MINE = {
    "corpus": {"folder": "corpus"},
    "encoders": {"other": {"base": "encoders/plain"}},
    "ablations": [{"name": "a"}],
    "baseline": "a",
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
