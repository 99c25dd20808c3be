# Orphans: what an earlier config made under results/ and the present one does not.
#
# Needs   nothing
# Removes files of ablations, encoders, splits and shards that are gone; never one that the workflow did not make
#
#   snakemake -n prune          lists them
#   snakemake -c 1 prune        removes them


import functools

from snakemake.io import IOFile

from ser.tracing import orphans


localrules:
    prune,


def made(
    path,
):
    """Whether Snakemake's notes say that a job of this workflow made a file."""
    return workflow.persistence.rule(IOFile(path)) is not None


@functools.cache
def find_orphans(
    results="results",
):
    # As folders of logs: in a module, rules can have other names.
    logs = {Path(log).parts for rule in workflow.rules for log in rule.log}
    names = {parts[2] for parts in logs if parts[:2] == ("results", "logs")}
    return orphans.find_orphans(Path(results), makes, made, names)


def list_orphans(
    wildcards,
):
    found = find_orphans()
    return "\n".join([f"{len(found)} files that this config does not make", *found])


rule prune:
    """Target: remove files that this config does not make (-n lists them)."""
    log:
        "results/logs/prune.log",
    conda:
        "../envs/audio.yaml"
    params:
        orphans=lambda wildcards: find_orphans(),
        listing=list_orphans,
    message:
        "{params.listing}"
    script:
        "../workflow_scripts/prune.py"
