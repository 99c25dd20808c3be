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
