"""The workflow as a module of another Snakefile."""

import pytest

OUTER = """
configfile: "config.yaml"

module ser:
    snakefile: "{snakefile}"
    config: config{more}

use rule * from ser as ser_*

rule mine:
    input: "results/ablation_table.csv"
    output: "mine.txt"
    log: "mine.log"
    shell: "wc -l < {{input}} > {{output}}"
"""


def wrap(project, more=""):
    """A Snakefile in the project's working folder that uses the workflow."""
    path = project.work / "Snakefile"
    path.write_text(OUTER.format(snakefile=project.checkout / "Snakefile", more=more))
    return path


def test_a_module_is_the_same_workflow(project):
    """What the workflow made is up to date for a Snakefile that uses it under other names, prune included."""
    outer = wrap(project)
    project.run("--dry-run", "ser_all", "mine", snakefile=outer)
    assert set(project.reasons) == {"mine"}
    done = project.run("--dry-run", "ser_prune", snakefile=outer)
    assert "0 files that this config does not make" in done.stdout + done.stderr


def test_a_prefix_is_refused_with_a_sentence(project):
    done = project.run("--dry-run", snakefile=wrap(project, '\n    prefix: "sub"'), check=False)
    assert done.returncode and "module: prefix cannot be used with this workflow" in done.stdout + done.stderr


@pytest.mark.long
def test_a_module_makes_the_same_table(built, tmp_path):
    project = built.copy(tmp_path / "project", "results", ".snakemake")
    project.run("mine", snakefile=wrap(project))
    tables = ("ablation_table.csv", "contrast_table.csv", "speaker_table.csv")
    for name in tables:
        assert (project.work / "results" / name).read_bytes() == (built.work / "results" / name).read_bytes(), name
