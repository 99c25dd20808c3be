# Adaptive pre-training of encoders by masked prediction (TAPT), with a vector a speaker (PAPT).
#
# Needs   the base of an encoder of config `encoders` with `adaptation`, results/manifests/…, the audio files;
#         with papt results/encoder_summaries/{similarity}/{split}.parquet and results/embeddings/{similarity}/…
# Makes   results/pseudo_labels/{labels}/clusters.safetensors, results/pseudo_labels/{labels}/{split}/shard-{shard}.parquet,
#         results/encoders/{encoder}/ with adaptation.safetensors and training.csv,
#         results/speaker_embeddings/{encoder}/{split}/shard-{shard}.json

ADAPTATION_CODE = library("adapt_encoder.py")


rule fit_clusters:
    """Fit the clusters of frames that pre-training predicts."""
    input:
        manifests=clustered_shards,
        card=clustered_encoder,
        centroids=given_centroids,
    output:
        "results/pseudo_labels/{labels}/clusters.safetensors",
    log:
        "results/logs/fit_clusters/{labels}.log",
    benchmark:
        "results/benchmarks/fit_clusters/{labels}.tsv"
    conda:
        "../envs/adaptation.yaml"
    threads: 2
    resources:
        mem_mb=4000,
    params:
        *library("fit_clusters.py"),
        digest=centroids_digest,
        options=lambda wildcards: PSEUDO_LABELS[wildcards.labels],
        audio=config["audio"],
        device=clustering_device,
    message:
        "Clusters of frames for the pseudo-labels {wildcards.labels}"
    script:
        "../workflow_scripts/fit_clusters.py"


rule label_frames:
    """Label the frames of one shard with their clusters."""
    input:
        manifest="results/manifests/{split}/shard-{shard}.csv",
        clusters="results/pseudo_labels/{labels}/clusters.safetensors",
        card=clustered_encoder,
    output:
        "results/pseudo_labels/{labels}/{split}/shard-{shard}.parquet",
    log:
        "results/logs/label_frames/{labels}/{split}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/label_frames/{labels}/{split}/shard-{shard}.tsv"
    conda:
        "../envs/adaptation.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("label_frames.py"),
        options=lambda wildcards: PSEUDO_LABELS[wildcards.labels],
        audio=config["audio"],
        digest=manifest_digest,
        device=clustering_device,
    message:
        "Pseudo-labels {wildcards.labels} of {wildcards.split}, shard {wildcards.shard}"
    script:
        "../workflow_scripts/label_frames.py"


rule adapt_encoder:
    """Pre-train an encoder further on the corpus: TAPT, or PAPT with a vector a speaker."""
    input:
        unpack(pretraining_inputs),
    output:
        card="results/encoders/{encoder}/card.json",
        config="results/encoders/{encoder}/config.json",
        preprocessor="results/encoders/{encoder}/preprocessor_config.json",
        weights="results/encoders/{encoder}/model.safetensors",
        head="results/encoders/{encoder}/adaptation.safetensors",
        curve="results/encoders/{encoder}/training.csv",
    log:
        "results/logs/adapt_encoder/{encoder}.log",
    benchmark:
        "results/benchmarks/adapt_encoder/{encoder}.tsv"
    wildcard_constraints:
        encoder=one_of(ADAPTED_ENCODERS),
    conda:
        "../envs/adaptation.yaml"
    threads: lambda wildcards: ENCODERS[wildcards.encoder]["pretraining"]["threads"]
    resources:
        mem_mb=16000,
    params:
        *ADAPTATION_CODE,
        base=encoder_option("base"),
        revision=encoder_option("revision"),
        base_digest=encoder_digest,
        options=adaptation_options,
        settings=encoder_option("pretraining"),
        audio=config["audio"],
        device=encoder_option("device"),
        checkpoint="results/.checkpoints/{encoder}.pt",
        tensorboard="results/logs/tensorboard/{encoder}",
        fingerprint=" ".join(ADAPTATION_CODE),
    message:
        "Pre-training {wildcards.encoder} from {params.base} on the corpus"
    script:
        "../workflow_scripts/adapt_encoder.py"


rule place_speakers:
    """Give the speakers of one shard their vectors for a personalised encoder."""
    input:
        unpack(placement_inputs),
        manifest="results/manifests/{split}/shard-{shard}.csv",
        head="results/encoders/{encoder}/adaptation.safetensors",
    output:
        "results/speaker_embeddings/{encoder}/{split}/shard-{shard}.json",
    log:
        "results/logs/place_speakers/{encoder}/{split}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/place_speakers/{encoder}/{split}/shard-{shard}.tsv"
    wildcard_constraints:
        encoder=one_of(PERSONALISED_ENCODERS),
    conda:
        "../envs/adaptation.yaml"
    resources:
        mem_mb=1000,
    params:
        *library("place_speakers.py"),
        neighbours=placement_neighbours,
        digest=manifest_digest,
    message:
        "Vectors of the speakers of {wildcards.split}, shard {wildcards.shard}, for {wildcards.encoder}"
    script:
        "../workflow_scripts/place_speakers.py"
