# Encoders, and the embeddings that they make of a shard.
#
# Needs   the folder or hub model of config `encoders`, results/manifests/{split}/shard-{shard}.csv, its audio files;
#         of adapted encoders those that rules/adaptation.smk makes, and results/speaker_embeddings/…;
#         of fine-tuned ones results/finetuned/{ablation}/seed-{seed}/, which rules/finetuning.smk makes
# Makes   results/encoders/{encoder}/, results/embeddings/{encoder}/{split}/shard-{shard}.tfrecord,
#         results/frames/… of encoders of which a head reads frames, results/encoder_summaries/{encoder}/{split}.parquet

from ser.encoders import reuse

EMBEDDING_CODE = library("embed_shard.py")
# Encoders of which a head reads frames: those are written in the same pass as the pooled embeddings.
FRAMED_ENCODERS = {
    encoder
    for name, ablation in ABLATIONS.items()
    if ablation.reads_frames
    for encoder in (
        [name_encoder(name, seed) for seed in SEEDS]
        if ablation.finetune
        else [ablation.encoder]
    )
}


rule prepare_encoder:
    """Bring an encoder from the hub or a folder into the workflow's form."""
    output:
        card="results/encoders/{encoder}/card.json",
        config="results/encoders/{encoder}/config.json",
        preprocessor="results/encoders/{encoder}/preprocessor_config.json",
        weights="results/encoders/{encoder}/model.safetensors",
        heard="results/encoders/{encoder}/heard.txt",
    log:
        "results/logs/prepare_encoder/{encoder}.log",
    benchmark:
        "results/benchmarks/prepare_encoder/{encoder}.tsv"
    wildcard_constraints:
        encoder=one_of(set(ENCODERS) - ADAPTED_ENCODERS),
    priority: 2  # what cannot be used is to be known before hours of other work
    conda:
        "../envs/encoder.yaml"
    resources:
        mem_mb=8000,
    params:
        *library("prepare_encoder.py"),
        base=encoder_option("base"),
        revision=encoder_option("revision"),
        digest=encoder_digest,
    message:
        "Encoder {wildcards.encoder} from {params.base}"
    script:
        "../workflow_scripts/prepare_encoder.py"


def speaker_vectors_of(
    wildcards,
):
    """The vectors of a shard's speakers, where the encoder is a personalised one."""
    if untuned(wildcards.encoder) not in PERSONALISED_ENCODERS:
        return []
    encoder = owner_of_vectors(wildcards.encoder)
    return f"results/speaker_embeddings/{encoder}/{{split}}/shard-{{shard}}.json"


def keeps_output_alone(
    wildcards,
):
    """Whether no layer below the last one is read: so it is of an encoder tuned for a head that reads that one."""
    ablation = TUNED_ENCODERS.get(wildcards.encoder)
    return ablation is not None and ABLATIONS[ablation].layer != "weighted"


rule embed_shard:
    """Embed one shard: every layer averaged over time."""
    input:
        manifest="results/manifests/{split}/shard-{shard}.csv",
        card=lambda wildcards: encoder_file(wildcards.encoder, "card.json"),
        weights=lambda wildcards: encoder_file(wildcards.encoder, "model.safetensors"),
        vectors=speaker_vectors_of,
    output:
        pooled="results/embeddings/{encoder}/{split}/shard-{shard}.tfrecord",
    log:
        "results/logs/embed_shard/{encoder}/{split}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/embed_shard/{encoder}/{split}/shard-{shard}.tsv"
    wildcard_constraints:
        encoder=one_of({*ENCODERS, *TUNED_ENCODERS} - FRAMED_ENCODERS),
    conda:
        "../envs/encoder.yaml"
    threads: encoder_option("threads")
    resources:
        mem_mb=8000,
    params:
        *EMBEDDING_CODE,
        frames_layer=encoder_option("frames_layer"),
        output=keeps_output_alone,
        dtype=encoder_option("dtype"),
        device=encoder_option("device"),
        precision=encoder_option("precision"),
        audio=config["audio"],
        digest=manifest_digest,
        reuse_dir="results/.reuse/{encoder}/{split}",
        fingerprint=" ".join(EMBEDDING_CODE),
    message:
        "Embeddings of {wildcards.split}, shard {wildcards.shard}, by {wildcards.encoder}"
    script:
        "../workflow_scripts/embed_shard.py"


use rule embed_shard as embed_shard_with_frames with:
    """Embed one shard: every layer averaged over time, and the frames of one."""
    output:
        pooled="results/embeddings/{encoder}/{split}/shard-{shard}.tfrecord",
        frames="results/frames/{encoder}/{split}/shard-{shard}.tfrecord",
    wildcard_constraints:
        encoder=one_of(FRAMED_ENCODERS),
    message:
        "Embeddings and frames of {wildcards.split}, shard {wildcards.shard}, by {wildcards.encoder}"


def forget_forced(
    dag,
):
    """An embedding that the user forces is computed anew, not put together from records of the last run."""
    for job in dag.needrun_jobs():
        if "reuse_dir" in job.params.keys() and dag.reason(job).forced:
            reuse.forget(job.params.reuse_dir, f"shard-{job.wildcards.shard}")


rule summarise_embeddings:
    """Mean and variance of each speaker's embeddings."""
    input:
        embeddings=lambda wildcards: shards(
            "results/embeddings/{encoder}/{split}/shard-{shard}.tfrecord",
            wildcards.split,
            encoder=wildcards.encoder,
        ),
    output:
        "results/encoder_summaries/{encoder}/{split}.parquet",
    log:
        "results/logs/summarise_embeddings/{encoder}/{split}.log",
    benchmark:
        "results/benchmarks/summarise_embeddings/{encoder}/{split}.tsv"
    wildcard_constraints:
        encoder=one_of(ENCODERS),
    priority: 1  # what adapts an encoder waits for it
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("summarise_embeddings.py"),
    message:
        "Embeddings of {wildcards.split} by {wildcards.encoder}, summarised by speaker"
    script:
        "../workflow_scripts/summarise_embeddings.py"


rule embeddings:
    """Target: the embeddings of all encoders and shards."""
    input:
        [
            path
            for encoder in ENCODERS
            for split in INDEX.shards
            for path in shards(
                "results/embeddings/{encoder}/{split}/shard-{shard}.tfrecord",
                split,
                encoder=encoder,
            )
        ],
