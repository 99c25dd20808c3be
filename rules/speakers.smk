# Audio facts and speakers' averaged MFCCs, in one decoding pass over a shard.
#
# Needs   results/manifests/{split}/shard-{shard}.csv, the audio files that it lists
# Makes   results/audio/{split}/shard-{shard}.parquet, results/speakers/{split}/shard-{shard}.json


rule measure_audio:
    """Audio facts and averaged MFCCs of one shard."""
    input:
        manifest="results/manifests/{split}/shard-{shard}.csv",
    output:
        facts="results/audio/{split}/shard-{shard}.parquet",
        speakers="results/speakers/{split}/shard-{shard}.json",
    log:
        "results/logs/measure_audio/{split}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/measure_audio/{split}/shard-{shard}.tsv"
    priority: 1  # what cannot be used is known before the long jobs
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=1000,
    params:
        *library("measure_audio.py"),
        audio=config["audio"],
        digest=manifest_digest,
    message:
        "Audio facts and averaged MFCCs of {wildcards.split}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/measure_audio.py"


rule speakers:
    """Target: the averaged MFCCs of all shards."""
    input:
        [
            path
            for split in INDEX.shards
            for path in shards("results/speakers/{split}/shard-{shard}.json", split)
        ],
