# Orphans: what an earlier config made under results/ and the present one does not.
#
# Needs   nothing
# Removes files of ablations, encoders, splits and shards that are gone; never one that the workflow did not make
#
#   snakemake -n prune          lists them
#   snakemake -c 1 prune        removes them


localrules:
    prune,


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
