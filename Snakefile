# Personalised speech emotion regression, from raw audio to an ablation table.
#
#   snakemake --cores 8 results/ablation_table.csv     the study that config.yaml describes
#   snakemake -n                                       what would run, and why
#   snakemake --cores 8 results/speakers/train/shard-000.json     one file, and what it needs
#   snakemake -n prune                                 files under results/ that no longer belong; without -n: removes them


include: "rules/interpreter.smk"
include: "rules/plain_config.smk"


if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/corpus.smk"
include: "rules/speakers.smk"
include: "rules/encoders.smk"
include: "rules/adaptation.smk"
include: "rules/heads.smk"
include: "rules/finetuning.smk"
include: "rules/tuning.smk"
include: "rules/evaluation.smk"
include: "rules/provenance.smk"
include: "rules/recordings.smk"
include: "rules/bundles.smk"
include: "rules/model_cards.smk"
include: "rules/export.smk"
include: "rules/report.smk"
include: "rules/prune.smk"


rule all:
    """Target: everything, the report included."""
    default_target: True
    input:
        "results/ablation_table.csv",
        "results/provenance.json",
        expand("results/models/{ablation}/README.md", ablation=ABLATIONS),
        "results/speaker_table.csv",
        GROUP_TABLES,
        "results/label_shift.csv",
        "results/metadata/utterances.parquet",
        "results/metadata/rejected.csv",
        "results/report.html",


onstart:
    # Not in a plan. A job on a cluster's node reads the workflow again, and is forced always.
    if workflow.is_main_process:
        settle_index()
        unlink_reports(workflow.dag)
        forget_forced(workflow.dag)
        measure_first(workflow.dag)
