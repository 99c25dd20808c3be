# The corpus as tables.
#
# Needs   results/manifests/{split}/labels.csv, results/audio/{split}/shard-{shard}.parquet
# Makes   results/labels/{split}.parquet, results/metadata/utterances.parquet, results/metadata/rejected.csv


rule build_labels:
    """Labels of one split, as Parquet."""
    input:
        sheet="results/manifests/{split}/labels.csv",
    output:
        "results/labels/{split}.parquet",
    log:
        "results/logs/build_labels/{split}.log",
    benchmark:
        "results/benchmarks/build_labels/{split}.tsv"
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=1000,
    params:
        *library("build_labels.py"),
        targets=TARGETS,
        digest=lambda wildcards: INDEX.labels.get(wildcards.split),
    message:
        "Labels of split {wildcards.split}"
    script:
        "../workflow_scripts/build_labels.py"


rule describe_corpus:
    """Tables of all utterances, and of those set aside with their reasons."""
    input:
        facts=[
            path
            for split in INDEX.shards
            for path in shards("results/audio/{split}/shard-{shard}.parquet", split)
        ],
        labels=expand("results/labels/{split}.parquet", split=INDEX.shards),
    output:
        utterances="results/metadata/utterances.parquet",
        rejected="results/metadata/rejected.csv",
    log:
        "results/logs/describe_corpus.log",
    benchmark:
        "results/benchmarks/describe_corpus.tsv"
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("describe_corpus.py"),
        folder=config["corpus"]["folder"],
    message:
        "Tables of all utterances and of those set aside"
    script:
        "../workflow_scripts/describe_corpus.py"
