# The corpus as tables.
#
# Needs   results/manifests/{split}/labels.csv, results/audio/{split}/shard-{shard}.parquet
# Makes   results/labels/{split}.parquet, results/metadata/utterances.parquet, results/metadata/rejected.csv,
#         results/metadata/set_aside.json


localrules:
    check_audio,


# What takes hours of decoding for an encoder.
HEARING = {
    "embed_shard",
    "embed_shard_with_frames",
    "fit_clusters",
    "label_frames",
    "adapt_encoder",
    "finetune_ablation",
    "finetune_ablation_with_vectors",
    "measure_vectors",
}


def holds(
    ready,
    job,
):
    """Whether what is ready to run is this job, or a group with it."""
    return job in ready.jobs if ready.is_group() else job is ready


def measure_first(
    dag,
):
    """No encoder hears anything in this run before `check_audio` has counted what cannot be used.

    With its result as an input of theirs, one changed test file would embed, and train, everything again.
    """
    jobs = list(dag.needrun_jobs())
    checks = [job for job in jobs if job.rule.name == "check_audio"]
    for job in jobs:
        if checks and job.rule.name in HEARING:
            dag.depending[checks[0]][job].update()
            dag._n_until_ready[job] += 1
            dag._ready_jobs -= {each for each in dag._ready_jobs if holds(each, job)}


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
    priority: 2
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


rule check_audio:
    """Stop where more audio was set aside than the config allows; else say what was."""
    input:
        utterances="results/metadata/utterances.parquet",
        rejected="results/metadata/rejected.csv",
    output:
        "results/metadata/set_aside.json",
    log:
        "results/logs/check_audio.log",
    benchmark:
        "results/benchmarks/check_audio.tsv"
    priority: 2
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=1000,
    params:
        *library("check_audio.py"),
        most=MOST_REJECTED,
    message:
        "Counting the audio that was set aside"
    script:
        "../workflow_scripts/check_audio.py"
