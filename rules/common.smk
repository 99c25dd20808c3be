# What every stage uses: the checked config, the index of the corpus, and the names of files that rules share.
#
# Needs   config.yaml, the corpus and the encoder folders it names
# Makes   results/manifests/{split}/shard-{shard}.csv, results/manifests/{split}/labels.csv (while the workflow is read)

import functools
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import IOFile

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from ser import config as ser_config
from ser import grid, index, methods, orphans, recordings, sources
from ser.files import DataError

try:
    config = ser_config.check(config, ROOT / "rules" / "config.schema.yaml")
    ENCODERS = ser_config.resolve_encoders(config)
    # Taken out of the config: what is tuned or scored decides nothing but that, and the ablations that are `tuned`.
    GRID = config.pop("tuning")
    ABLATIONS = grid.resolve_tuned(ser_config.resolve_ablations(config), GRID)
    METHODS = methods.read_methods(config["calibration"]["methods"])
    STUDIED = methods.check_studied(config["evaluation"]["shift_calibration"], METHODS)
    SCORED_SETS = recordings.check_sets(config.pop("scored"), ABLATIONS, METHODS)
    # Jobs read the workflow again, on a cluster on their own node: only the main process looks at the corpus.
    INDEX = (
        index.build(config["corpus"], config["encoders"], SCORED_SETS)
        if workflow.is_main_process
        else index.load()
    )
except DataError as error:
    raise WorkflowError(str(error)) from None

SEEDS = config["seeds"]
TARGETS = config["corpus"]["targets"]
TEST_SPLITS = INDEX.test_splits
SHARDS = INDEX.shards | INDEX.scored
SCORED_SPLITS = ["validation", *TEST_SPLITS]
# Encoders of which a head reads frames: those are written in the same pass as the pooled embeddings.
FRAMED_ENCODERS = {
    a["encoder"] for a in ABLATIONS.values() if a["features"] == "frames"
}
# What tuning found best, of each ablation that is trained with it.
WINNERS = {
    name: f"results/tuning/{ablation['tuned']['ablation']}.json"
    for name, ablation in ABLATIONS.items()
    if "tuned" in ablation
}

# Encoders that are trained further on this corpus; the personalised ones need a vector of each speaker.
ADAPTED_ENCODERS = {n for n, e in ENCODERS.items() if e["adaptation"] != "none"}
PERSONALISED_ENCODERS = {n for n, e in ENCODERS.items() if e["adaptation"] == "papt"}
PSEUDO_LABELS = config["pseudo_labels"]


def one_of(names):
    """A pattern for a wildcard that is one of these names, or nothing at all."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


def library(script):
    """A script and the library modules it uses, each with its digest: the code that a rule's result depends on.

    These are params and not inputs, which would go by dates and by where the checkout lies.
    """
    return sources.digest_files(
        sources.find_sources(ROOT / "workflow_scripts" / script)
    )


def shards(pattern, split, **names):
    """The files of all shards of a split: `{split}` and `{shard}` in the pattern are filled in."""
    return expand(pattern, split=split, shard=sorted(SHARDS.get(split, ())), **names)


def manifest_digest(wildcards):
    """The digest of a shard's manifest: its content decides, even if a clock was set back."""
    return SHARDS.get(wildcards.split, {}).get(wildcards.shard)


def encoder_option(key):
    """A params function: one of an encoder's options."""
    return lambda wildcards: ENCODERS[wildcards.encoder][key]


def encoder_digest(wildcards):
    """The digest of the encoder's files, or the name and revision of a hub model."""
    return INDEX.encoders[wildcards.encoder]


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
    keys = ("adaptation", "position", "splits", "neighbours")
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


def forget_forced(dag):
    """An embedding that the user forces is computed anew, not put together from records of the last run."""
    for job in dag.needrun_jobs():
        if job.rule.name.startswith("embed_shard") and dag.reason(job).forced:
            shard = f"shard-{job.wildcards.shard}-*"
            for record_file in Path(job.params.reuse_dir).glob(shard):
                record_file.unlink()


def makes(path):
    """Whether a job of the present config makes a file."""
    matches = (
        product.match(path) for each in workflow.rules for product in each.products()
    )
    return any(is_in_corpus(**match.groupdict()) for match in matches if match)


def is_in_corpus(split=None, shard=None, **others):
    return shard is None or shard in SHARDS.get(split, ())


def made(path):
    """Whether Snakemake's notes say that a job of this workflow made a file."""
    return workflow.persistence.rule(IOFile(path)) is not None


@functools.cache
def find_orphans():
    names = {rule.name for rule in workflow.rules}
    return orphans.find_orphans(Path("results"), makes, made, names)


def list_orphans(wildcards):
    found = find_orphans()
    return "\n".join([f"{len(found)} files that this config does not make", *found])


# Scripts of which the tables know nothing: an edit of them is no reason for another figure.
BESIDE_THE_TABLE = {
    "describe_corpus.py",
    "export_predictions.py",
    "prune.py",
    "record_provenance.py",
    "study_label_shift.py",
    "write_model_cards.py",
    "write_report.py",
}


def scripts_of_the_table(wildcards):
    """The scripts of all rules but those beside the table."""
    scripts = {Path(rule.script).name for rule in workflow.rules if rule.script}
    return sorted(scripts - BESIDE_THE_TABLE)


wildcard_constraints:
    ablation=one_of(ABLATIONS),
    encoder=one_of(ENCODERS),
    labels=one_of(PSEUDO_LABELS),
    split=one_of(SHARDS),
    shard=r"\d{3}",
    seed=r"\d+",
