# Personalised speech emotion regression, from raw audio to an ablation table.
#
#   snakemake --cores 8 results/ablation_table.csv     the study that config.yaml describes
#   snakemake -n                                       what would run, and why
#   snakemake --cores 8 results/speakers/train/shard-000.json     one file, and what it needs
#   snakemake -n prune                                 files under results/ that no longer belong; without -n: removes them


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/corpus.smk"
include: "rules/speakers.smk"
include: "rules/encoders.smk"
include: "rules/heads.smk"
include: "rules/evaluation.smk"
include: "rules/prune.smk"


rule all:
    default_target: True
    input:
        "results/ablation_table.csv",
        "results/speaker_table.csv",
        "results/label_shift.csv",
        "results/metadata/utterances.parquet",
        "results/metadata/rejected.csv",
