# What each stage reads: the inputs of rules, stage by stage.
#
# Needs   rules/common.smk


def clustered_encoder(wildcards):
    """The card of the encoder whose layer pseudo-labels are clusters of; nothing where they are of MFCCs."""
    labels = PSEUDO_LABELS[wildcards.labels]
    if labels["features"] == "mfcc":
        return []
    return f"results/encoders/{labels['encoder']}/card.json"


def clustered_shards(wildcards):
    """The shards of which clusters are made: the training split, whoever predicts them; none if they are given."""
    if "centroids" in PSEUDO_LABELS[wildcards.labels]:
        return []
    return shards("results/manifests/{split}/shard-{shard}.csv", "train")


def given_centroids(wildcards):
    """The file that holds the clusters of pseudo-labels, where they are not fitted here."""
    folder = PSEUDO_LABELS[wildcards.labels].get("centroids")
    return f"{folder}/adaptation.safetensors" if folder else []


def centroids_digest(wildcards):
    """What that file holds, which its date need not tell; if this workflow makes the file, Snakemake knows."""
    path = given_centroids(wildcards)
    given = path and not makes(path) and Path(path).is_file()
    return sources.digest_files([path]) if given else []


def clustering_device(wildcards):
    """The device of the encoder whose layer pseudo-labels are clusters of."""
    labels = PSEUDO_LABELS[wildcards.labels]
    return ENCODERS[labels["encoder"]]["device"] if labels.get("encoder") else "cpu"


def adaptation_options(wildcards):
    """How an encoder is adapted, beside the settings of the training."""
    keys = ("adaptation", "position", "splits")
    return {key: ENCODERS[wildcards.encoder][key] for key in keys}


def pretraining_inputs(wildcards):
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


def speaker_means_of(encoder, splits):
    """Mean features of the speakers of splits, by the encoder that a personalised one compares them with."""
    return expand(
        "results/encoder_summaries/{encoder}/{split}.parquet",
        encoder=encoder["similarity"],
        split=splits,
    )


def placement_inputs(wildcards):
    """What says whom the speakers of a shard resemble; nothing where pre-training heard them."""
    encoder = ENCODERS[wildcards.encoder]
    if wildcards.split in encoder["splits"]:
        return {}
    return {
        "known_means": speaker_means_of(encoder, encoder["splits"]),
        "embeddings": f"results/embeddings/{encoder['similarity']}/{wildcards.split}/shard-{wildcards.shard}.tfrecord",
    }


def placement_neighbours(wildcards):
    """How many similar speakers' vectors are averaged; nothing where pre-training heard the speakers."""
    encoder = ENCODERS[wildcards.encoder]
    return None if wildcards.split in encoder["splits"] else encoder["neighbours"]


def speaker_vectors_of(wildcards):
    """The vectors of a shard's speakers, where the encoder is a personalised one."""
    if wildcards.encoder not in PERSONALISED_ENCODERS:
        return []
    return "results/speaker_embeddings/{encoder}/{split}/shard-{shard}.json"


def hears_test_speakers(encoder):
    """Whether an encoder needs all audio of test speakers for their vectors, or it (or one it learned from) heard some."""
    ancestry = ser_config.find_ancestry(encoder, ENCODERS, PSEUDO_LABELS)
    heard = {split for name in ancestry for split in ENCODERS[name].get("splits", [])}
    return encoder in PERSONALISED_ENCODERS or not heard.isdisjoint(TEST_SPLITS)


def features_of(ablation, split):
    """The shards of embeddings, or of frames, that an ablation's head reads."""
    settings = ABLATIONS[ablation]
    return shards(
        "results/{kind}/{encoder}/{split}/shard-{shard}.tfrecord",
        split,
        kind=settings["features"],
        encoder=settings["encoder"],
    )


def speakers_of(ablation, split):
    """The shards of speaker vectors that an ablation reads: none if it uses no speaker information."""
    if ABLATIONS[ablation]["speaker"] == "none":
        return []
    return shards("results/speakers/{split}/shard-{shard}.json", split)


def training_inputs(wildcards):
    """What the models of an ablation are made of: with `tuned` the settings that tuning found best too."""
    inputs = fitting_inputs(wildcards)
    if wildcards.ablation in WINNERS:
        inputs["winner"] = WINNERS[wildcards.ablation]
    return inputs


def fitting_inputs(wildcards):
    """Features and speaker vectors of the training and the validation split.

    Similar-speaker weighting compares training with test speakers: there alone a test file does cause training.
    """
    name, pattern = wildcards.ablation, "results/speakers/{split}/shard-{shard}.json"
    inputs = {split: features_of(name, split) for split in ("train", "validation")}
    inputs |= {
        f"{split}_speakers": speakers_of(name, split)
        for split in ("train", "validation")
    }
    if ABLATIONS[name]["weighting"] == "similar_speakers":
        inputs["train_speakers"] = shards(pattern, "train")
        inputs["target_speakers"] = [
            path for split in TEST_SPLITS for path in shards(pattern, split)
        ]
    return inputs


def untuned_settings(wildcards):
    """What tuning starts from: an ablation's settings, whether or not its models are trained with the best."""
    settings = ABLATIONS[wildcards.ablation]
    return {key: settings[key] for key in settings if key != "tuned"}


def ablation_settings(wildcards):
    """Everything in the config that decides an ablation's models."""
    return ABLATIONS[wildcards.ablation]


def compared_vectors(ablation, split):
    """The speaker vectors of a split that the calibration methods compare, by similarity."""
    compared = {method.similarity for method in METHODS}
    vectors = {"fused": seed_files("speaker_vectors", ablation, split)}
    if "hubert" in compared:
        vectors["hubert"] = [
            f"results/encoder_summaries/{ABLATIONS[ablation]['encoder']}/{split}.parquet"
        ]
    if "mfcc" in compared:
        vectors["mfcc"] = shards("results/speakers/{split}/shard-{shard}.json", split)
    return vectors


def seed_files(kind, ablation, split):
    """The files of one kind and split that an ablation has for each seed."""
    return [f"results/{kind}/{ablation}/seed-{seed}/{split}.parquet" for seed in SEEDS]


def calibration_inputs(wildcards):
    """What calibration may see of a split, or of validation."""
    return calibration_evidence(
        wildcards.ablation, wildcards.get("split", "validation")
    )


def calibration_evidence(ablation, split):
    """A split's predictions and vectors, the training speakers' vectors; no labels."""
    train = {
        f"train_{name}": paths
        for name, paths in compared_vectors(ablation, "train").items()
    }
    files = {"predictions": seed_files("predictions", ablation, split)}
    if any(method.enrolment for method in METHODS):
        files["enrolment"] = seed_files("enrolment_vectors", ablation, split)
    return train | files | compared_vectors(ablation, split)


def scored_settings(wildcards):
    """What decides the scores of a set of recordings, beside its audio."""
    settings = SCORED_SETS[recordings.PREFIX + wildcards.scored]
    return {key: settings[key] for key in ("ablation", "calibration", "coverage")}


def scoring_inputs(wildcards):
    """What the scores of a set are made of: its calibrated predictions, and validation's for their errors.

    Neighbours of the speakers are found again in what calibration saw.
    """
    split = recordings.PREFIX + wildcards.scored
    ablation = SCORED_SETS[split]["ablation"]
    return calibration_evidence(ablation, split) | {
        "calibrated": seed_files("calibrated", ablation, split),
        "validation": seed_files("calibrated", ablation, "validation"),
        "choices": f"results/calibration/{ablation}/choices.json",
        "facts": shards("results/audio/{split}/shard-{shard}.parquet", split),
    }
