# Orphans: what an earlier config made under results/ and the present one does not.
#
# Needs   nothing
# Removes files of ablations, encoders, splits and shards that are gone; never one that the workflow did not make
#
#   snakemake -n prune          lists them
#   snakemake -c 1 prune        removes them

import functools

from snakemake.io import IOFile

from ser import orphans


def makes(path):
    """Whether a job of the present config makes a file."""
    matches = (
        product.match(path) for each in workflow.rules for product in each.products()
    )
    return any(is_in_corpus(**match.groupdict()) for match in matches if match)


def is_in_corpus(split=None, shard=None, **others):
    return shard is None or shard in INDEX.shards.get(split, ())


def made(path):
    """Whether Snakemake's notes say that a job of this workflow made a file."""
    return workflow.persistence.rule(IOFile(path)) is not None


@functools.cache
def find_orphans():
    return orphans.find_orphans(Path("results"), makes, made)


def list_orphans(wildcards):
    found = find_orphans()
    return "\n".join([f"{len(found)} files that this config does not make", *found])


localrules:
    prune,


rule prune:
    input:
        code=library("prune.py"),
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
