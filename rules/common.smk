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
from ser import index, methods, orphans, sources
from ser.files import DataError

try:
    config = ser_config.check(config, ROOT / "rules" / "config.schema.yaml")
    ABLATIONS = ser_config.resolve_ablations(config)
    METHODS = methods.read_methods(config["calibration"]["methods"])
    STUDIED = methods.check_studied(config["evaluation"]["shift_calibration"], METHODS)
    # Jobs read the workflow again, on a cluster on their own node: only the main process looks at the corpus.
    INDEX = (
        index.build(config["corpus"], config["encoders"])
        if workflow.is_main_process
        else index.load()
    )
except DataError as error:
    raise WorkflowError(str(error)) from None

SEEDS = config["seeds"]
TARGETS = config["corpus"]["targets"]
TEST_SPLITS = INDEX.test_splits
SCORED_SPLITS = ["validation", *TEST_SPLITS]
# Encoders of which a head reads frames: those are written in the same pass as the pooled embeddings.
FRAMED_ENCODERS = {
    a["encoder"] for a in ABLATIONS.values() if a["features"] == "frames"
}


def one_of(names):
    """A pattern for a wildcard that is one of these names, or nothing at all."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


def library(script):
    """A script and the library modules it uses: the code that a rule's result depends on."""
    return sources.find_sources(ROOT / "workflow_scripts" / script)


def shards(pattern, split, **names):
    """The files of all shards of a split: `{split}` and `{shard}` in the pattern are filled in."""
    return expand(
        pattern, split=split, shard=sorted(INDEX.shards.get(split, ())), **names
    )


def manifest_digest(wildcards):
    """The digest of a shard's manifest: its content decides, even if a clock was set back."""
    return INDEX.shards.get(wildcards.split, {}).get(wildcards.shard)


def encoder_option(key):
    """A params function: one of an encoder's options."""
    return lambda wildcards: config["encoders"][wildcards.encoder][key]


def encoder_digest(wildcards):
    """The digest of the encoder's files, or the name and revision of a hub model."""
    return INDEX.encoders[wildcards.encoder]


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
    """What calibration may see: a split's predictions and vectors, the training speakers' vectors; no labels."""
    ablation, split = wildcards.ablation, wildcards.get("split", "validation")
    train = {
        f"train_{name}": paths
        for name, paths in compared_vectors(ablation, "train").items()
    }
    files = {"predictions": seed_files("predictions", ablation, split)}
    if any(method.enrolment for method in METHODS):
        files["enrolment"] = seed_files("enrolment_vectors", ablation, split)
    return train | files | compared_vectors(ablation, split)


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
    return shard is None or shard in INDEX.shards.get(split, ())


def made(path):
    """Whether Snakemake's notes say that a job of this workflow made a file."""
    return workflow.persistence.rule(IOFile(path)) is not None


@functools.cache
def find_orphans():
    return orphans.find_orphans(Path("results"), makes, made)


def list_orphans(wildcards):
    found = find_orphans()
    return "\n".join([f"{len(found)} files that this config does not make", *found])


wildcard_constraints:
    ablation=one_of(ABLATIONS),
    encoder=one_of(config["encoders"]),
    split=one_of(INDEX.shards),
    shard=r"\d{3}",
    seed=r"\d+",
