# Tuning: settings of the heads compared on validation speakers; ablations with `tuned` are trained with the best.
#
# Needs   what training an ablation needs (rules/heads.smk), config `tuning`
# Makes   results/tuning/{ablation}.csv, results/tuning/{ablation}.json
#
#   snakemake --cores 8 results/tuning/ABLATION.csv


rule tune_ablation:
    """Try a grid of head settings on validation speakers."""
    input:
        unpack(fitting_inputs),
        train_labels="results/labels/train.parquet",
        validation_labels="results/labels/validation.parquet",
    output:
        table="results/tuning/{ablation}.csv",
        winner="results/tuning/{ablation}.json",
    log:
        "results/logs/tune_ablation/{ablation}.log",
    benchmark:
        "results/benchmarks/tune_ablation/{ablation}.tsv"
    wildcard_constraints:
        ablation=one_of(ABLATIONS if GRID else []),
    conda:
        "../envs/heads.yaml"
    threads: lambda wildcards: ABLATIONS[wildcards.ablation]["training"]["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: (
            attempt * int(2000 + 1000 * config["training_memory_gb"])
        ),
    params:
        *library("tune_ablation.py"),
        ablation=untuned_settings,
        grid=GRID,
        seeds=SEEDS,
        targets=TARGETS,
    message:
        "Tuning ablation {wildcards.ablation}"
    script:
        "../workflow_scripts/tune_ablation.py"
