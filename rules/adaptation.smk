# Adaptive pre-training of encoders by masked prediction (TAPT), with a vector for each speaker (PAPT).
#
# Needs   the base of an encoder of config `encoders` with `adaptation`, results/manifests/…, the audio files;
#         with papt results/encoder_summaries/{similarity}/{split}.parquet and results/embeddings/{similarity}/…
# Makes   results/pseudo_labels/{labels}/clusters.safetensors, results/pseudo_labels/{labels}/{split}/shard-{shard}.parquet,
#         results/encoders/{encoder}/ with adaptation.safetensors and training.csv,
#         results/speaker_embeddings/{encoder}/{split}/shard-{shard}.json

ADAPTATION_CODE = library("adapt_encoder.py")


def clustered_encoder(
    wildcards,
):
    """The card of the encoder whose layer pseudo-labels are clusters of; nothing where they are of MFCCs."""
    labels = PSEUDO_LABELS[wildcards.labels]
    if labels["features"] == "mfcc":
        return []
    return f"results/encoders/{labels['encoder']}/card.json"


def clustered_shards(
    wildcards,
):
    """The shards of which clusters are made: the training split, whoever predicts them; none if they are given."""
    if "centroids" in PSEUDO_LABELS[wildcards.labels]:
        return []
    return shards("results/manifests/{split}/shard-{shard}.csv", "train")


def given_centroids(
    wildcards,
):
    """The file that holds the clusters of pseudo-labels, where they are not fitted here."""
    folder = PSEUDO_LABELS[wildcards.labels].get("centroids")
    return f"{folder}/adaptation.safetensors" if folder else []


def centroids_digest(
    wildcards,
):
    """What that file holds, which its date need not tell; if this workflow makes the file, Snakemake knows."""
    path = given_centroids(wildcards)
    given = path and not makes(path) and Path(path).is_file()
    return sources.digest_files([path]) if given else []


def clustering_device(
    wildcards,
):
    """The device of the encoder whose layer pseudo-labels are clusters of."""
    labels = PSEUDO_LABELS[wildcards.labels]
    return ENCODERS[labels["encoder"]]["device"] if labels.get("encoder") else "cpu"


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


def adaptation_options(
    wildcards,
):
    """How an encoder is adapted, beside the settings of the training."""
    keys = ("adaptation", "position", "splits")
    return {key: ENCODERS[wildcards.encoder][key] for key in keys}


def speaker_means_of(
    encoder,
    splits,
):
    """Mean features of the speakers of splits, by the encoder that a personalised one compares them with."""
    return expand(
        "results/encoder_summaries/{encoder}/{split}.parquet",
        encoder=encoder["similarity"],
        split=splits,
    )


def pretraining_inputs(
    wildcards,
):
    """Manifests and pseudo-labels of what an encoder hears in pre-training and of what its loss is measured on."""
    encoder = ENCODERS[wildcards.encoder]
    labels = encoder["pseudo_labels"]
    inputs = {"clusters": f"results/pseudo_labels/{labels}/clusters.safetensors"}
    for name, splits in {
        "train": encoder["splits"],
        "validation": ["validation"],
    }.items():
        inputs[f"{name}_manifests"] = [
            path
            for split in splits
            for path in shards("results/manifests/{split}/shard-{shard}.csv", split)
        ]
        inputs[f"{name}_labels"] = [
            path
            for split in splits
            for path in shards(
                "results/pseudo_labels/{labels}/{split}/shard-{shard}.parquet",
                split,
                labels=labels,
            )
        ]
    if wildcards.encoder in PERSONALISED_ENCODERS:
        heard = sorted({*encoder["splits"], "validation"})
        inputs["speaker_means"] = speaker_means_of(encoder, heard)
    return inputs


rule adapt_encoder:
    """Pre-train an encoder further on the corpus: TAPT, or PAPT with a vector for each speaker."""
    input:
        unpack(pretraining_inputs),
    output:
        card="results/encoders/{encoder}/card.json",
        config="results/encoders/{encoder}/config.json",
        preprocessor="results/encoders/{encoder}/preprocessor_config.json",
        weights="results/encoders/{encoder}/model.safetensors",
        heard="results/encoders/{encoder}/heard.txt",
        head="results/encoders/{encoder}/adaptation.safetensors",
        curve="results/encoders/{encoder}/training.csv",
    log:
        "results/logs/adapt_encoder/{encoder}.log",
    benchmark:
        "results/benchmarks/adapt_encoder/{encoder}.tsv"
    wildcard_constraints:
        encoder=one_of(ADAPTED_ENCODERS),
    priority: 1  # the longest way to the table leads through here
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


def placement_inputs(
    wildcards,
):
    """What says whom the speakers of a shard resemble; nothing where pre-training heard them."""
    encoder = ENCODERS[untuned(wildcards.encoder)]
    if wildcards.split in encoder["splits"]:
        return {}
    return {
        "known_means": speaker_means_of(encoder, encoder["splits"]),
        "embeddings": f"results/embeddings/{encoder['similarity']}/{wildcards.split}/shard-{wildcards.shard}.tfrecord",
    }


def placement_neighbours(
    wildcards,
):
    """How many similar speakers' vectors are averaged; nothing where pre-training heard the speakers."""
    encoder = ENCODERS[untuned(wildcards.encoder)]
    return None if wildcards.split in encoder["splits"] else encoder["neighbours"]


rule place_speakers:
    """Give the speakers of one shard their vectors for a personalised encoder."""
    input:
        unpack(placement_inputs),
        manifest="results/manifests/{split}/shard-{shard}.csv",
        head=lambda wildcards: encoder_file(wildcards.encoder, "adaptation.safetensors"),
    output:
        "results/speaker_embeddings/{encoder}/{split}/shard-{shard}.json",
    log:
        "results/logs/place_speakers/{encoder}/{split}/shard-{shard}.log",
    benchmark:
        "results/benchmarks/place_speakers/{encoder}/{split}/shard-{shard}.tsv"
    wildcard_constraints:
        encoder=one_of(
            PERSONALISED_ENCODERS
            | {e for e, name in TUNED_ENCODERS.items() if trains_vectors(name)}
        ),
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
