# Tuning: settings of the heads compared on validation speakers; ablations with `tuned` are trained with the best.
#
# Needs   what training an ablation needs (rules/heads.smk), config `tuning`
# Makes   results/tuning/{ablation}.csv, results/tuning/{ablation}.json
#
#   snakemake --cores 8 results/tuning/ABLATION.csv


def untuned_settings(
    wildcards,
):
    """What tuning starts from: an ablation's settings, whether or not its models are trained with the best."""
    settings = ABLATIONS[wildcards.ablation].to_dict()
    return {key: settings[key] for key in settings if key != "tuned"}


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
        ablation=one_of(set(ABLATIONS) - set(FINETUNED) if GRID else []),
    conda:
        "../envs/heads.yaml"
    threads: fitting_threads
    resources:
        mem_mb=fitting_memory,
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
