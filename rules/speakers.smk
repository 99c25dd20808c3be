# Audio facts and speakers' averaged MFCCs, in one decoding pass over a shard; the other vectors of speakers.
#
# Needs   results/manifests/{split}/shard-{shard}.csv, the audio files that it lists; of vectors that are a layer of an
#         encoder results/embeddings/{encoder}/{split}/shard-{shard}.tfrecord, of others' vectors their file
# Makes   results/audio/{split}/shard-{shard}.parquet, results/speakers/{split}/shard-{shard}.json,
#         results/speaker_models/{vectors}/ of speaker models,
#         results/utterance_vectors/{vectors}/{split}/shard-{shard}.tfrecord,
#         results/speakers/{vectors}/{split}/shard-{shard}.json, results/speakers/{vectors}/{split}/permuted.json

MEASURING_CODE = library("measure_vectors.py")


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
    priority: 2  # what cannot be used is known before the long jobs
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


def name_vectors(
    *kinds,
):
    """A pattern for the names of speaker vectors of some kinds."""
    return one_of(name for name, each in SPEAKER_VECTORS.items() if each.kind in kinds)


rule prepare_speaker_model:
    """Bring a model for speaker verification from the hub or a folder into the workflow's form."""
    output:
        card="results/speaker_models/{vectors}/card.json",
        config="results/speaker_models/{vectors}/config.json",
        preprocessor="results/speaker_models/{vectors}/preprocessor_config.json",
        weights="results/speaker_models/{vectors}/model.safetensors",
        head="results/speaker_models/{vectors}/xvector.safetensors",
        heard="results/speaker_models/{vectors}/heard.txt",
    log:
        "results/logs/prepare_speaker_model/{vectors}.log",
    benchmark:
        "results/benchmarks/prepare_speaker_model/{vectors}.tsv"
    wildcard_constraints:
        vectors=name_vectors("model"),
    conda:
        "../envs/encoder.yaml"
    resources:
        mem_mb=8000,
    params:
        *library("prepare_speaker_model.py"),
        base=lambda wildcards: SPEAKER_VECTORS[wildcards.vectors].source,
        revision=lambda wildcards: SPEAKER_VECTORS[wildcards.vectors].revision,
        digest=lambda wildcards: INDEX.encoders[name_model(wildcards.vectors)],
    message:
        "Speaker model {wildcards.vectors} from {params.base}"
    script:
        "../workflow_scripts/prepare_speaker_model.py"


def speaker_model_of(
    wildcards,
):
    """The card of the model that makes vectors; nothing where they are not a model's."""
    if SPEAKER_VECTORS[wildcards.vectors].kind != "model":
        return []
    return "results/speaker_models/{vectors}/card.json"


def measuring_environment(
    wildcards,
):
    """The conda environment of a kind of vectors: opensmile is no free software, and only in one that asks for it."""
    kind = SPEAKER_VECTORS[wildcards.vectors].kind
    return f"../envs/{'egemaps' if kind == 'egemaps' else 'encoder'}.yaml"


rule measure_vectors:
    """Vectors of the utterances of one shard, of a kind that is dear to compute."""
    input:
        manifest="results/manifests/{split}/shard-{shard}.csv",
        card=speaker_model_of,
    output:
        "results/utterance_vectors/{vectors}/{split}/shard-{shard}.tfrecord",
    log:
        "results/logs/measure_vectors/{vectors}/{split}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/measure_vectors/{vectors}/{split}/shard-{shard}.tsv"
    wildcard_constraints:
        vectors=name_vectors(*MADE_FROM_AUDIO),
    conda:
        measuring_environment
    threads: lambda wildcards: SPEAKER_VECTORS[wildcards.vectors].threads
    resources:
        mem_mb=4000,
    params:
        *MEASURING_CODE,
        kind=lambda wildcards: SPEAKER_VECTORS[wildcards.vectors].kind,
        device=lambda wildcards: SPEAKER_VECTORS[wildcards.vectors].device,
        audio=config["audio"],
        digest=manifest_digest,
        reuse_dir="results/.reuse/speakers/{vectors}/{split}",
        fingerprint=" ".join(MEASURING_CODE),
    message:
        "Vectors {wildcards.vectors} of the utterances of {wildcards.split}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/measure_vectors.py"


def averaged_records(
    wildcards,
):
    """The records of utterances whose mean by speaker is a vector."""
    vectors = SPEAKER_VECTORS[wildcards.vectors]
    folder = (
        f"embeddings/{vectors.source}"
        if vectors.kind == "embeddings"
        else f"utterance_vectors/{vectors.name}"
    )
    return f"results/{folder}/{{split}}/shard-{{shard}}.tfrecord"


rule average_vectors:
    """Vectors of the speakers of one shard: means over their utterances."""
    input:
        averaged_records,
    output:
        "results/speakers/{vectors}/{split}/shard-{shard}.json",
    log:
        "results/logs/average_vectors/{vectors}/{split}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/average_vectors/{vectors}/{split}/shard-{shard}.tsv"
    wildcard_constraints:
        vectors=name_vectors("embeddings", *MADE_FROM_AUDIO),
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("average_vectors.py"),
        kind=lambda wildcards: SPEAKER_VECTORS[wildcards.vectors].kind,
        layer=lambda wildcards: SPEAKER_VECTORS[wildcards.vectors].layer,
    message:
        "Vectors {wildcards.vectors} of the speakers of {wildcards.split}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/average_vectors.py"


def vectors_digest(
    wildcards,
):
    """The digest of a shard's vectors in a file of others: another speaker's there is no reason to run again."""
    manifest = "results/manifests/{split}/shard-{shard}.csv".format(**wildcards)
    try:
        return vectors_file.digest_shard(
            wildcards.vectors, SPEAKER_VECTORS[wildcards.vectors].source, manifest
        )
    except DataError as error:
        raise WorkflowError(str(error)) from None


rule take_vectors:
    """Vectors of the speakers of one shard, from a file that another tool made."""
    input:
        manifest="results/manifests/{split}/shard-{shard}.csv",
    output:
        "results/speakers/{vectors}/{split}/shard-{shard}.json",
    log:
        "results/logs/take_vectors/{vectors}/{split}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/take_vectors/{vectors}/{split}/shard-{shard}.tsv"
    wildcard_constraints:
        vectors=name_vectors("file"),
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=1000,
    params:
        *library("take_vectors.py"),
        file=lambda wildcards: SPEAKER_VECTORS[wildcards.vectors].source,
        digest=vectors_digest,
    message:
        "Vectors {wildcards.vectors} of the speakers of {wildcards.split}, shard {wildcards.shard}, from a file"
    script:
        "../workflow_scripts/take_vectors.py"


rule permute_vectors:
    """A control: each speaker of one split with the vector of another one."""
    input:
        lambda wildcards: [
            f"results/{path}"
            for path in SPEAKER_VECTORS[
                SPEAKER_VECTORS[wildcards.vectors].source
            ].list_files(
                split=wildcards.split, shard=sorted(SHARDS.get(wildcards.split, ()))
            )
        ],
    output:
        "results/speakers/{vectors}/{split}/permuted.json",
    log:
        "results/logs/permute_vectors/{vectors}/{split}.log",
    benchmark:
        "results/benchmarks/permute_vectors/{vectors}/{split}.tsv"
    wildcard_constraints:
        vectors=name_vectors("permute"),
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=1000,
    params:
        *library("permute_vectors.py"),
    message:
        "Vectors {wildcards.vectors} of the speakers of {wildcards.split}: each has another's"
    script:
        "../workflow_scripts/permute_vectors.py"


rule speakers:
    """Target: the averaged MFCCs of all shards."""
    input:
        [
            path
            for split in INDEX.shards
            for path in shards("results/speakers/{split}/shard-{shard}.json", split)
        ],
