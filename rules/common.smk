# What every stage uses: the checked config, the index of the corpus, and the names of files that several stages share.
#
# Needs   config.yaml, the corpus and the encoder folders it names
# Makes   results/manifests/{split}/shard-{shard}.csv, results/manifests/{split}/labels.csv and, with `corpus.groups`,
#         results/manifests/{split}/groups.csv (while the workflow is read, unless another run is at work here; what an
#         earlier index wrote and this one does not goes when jobs start)
#
# What one stage alone uses stands in its own file, above its rule. (A function's arguments are given a line each
# there: Snakemake's linter takes a file for mixed up where it finds functions beside rules, in one line.)

import re
import sys

from snakemake.settings.types import DeploymentMethod

from ser.python_version import explain_unserved

if unserved := explain_unserved():
    raise WorkflowError(unserved)

from ser.config import early_checks, schema
from ser.config.ablations import check_primary, resolve_ablations
from ser.config.bundles import check_bundles
from ser.config.calibration_methods import check_similarities, check_studied
from ser.config.calibration_methods import count_enrolled, count_labelled, read_methods
from ser.config.encoders import resolve_encoders
from ser.config.finetuning import check_encoder, check_size, name_encoder
from ser.config.speaker_vectors import (
    MADE_FROM_AUDIO,
    check_installed,
    list_models,
    name_model,
    resolve_speaker_vectors,
)
from ser.config.tuning_grid import resolve_tuned
from ser.corpus import index, recordings
from ser.corpus.variation import check_validation
from ser.files import DataError
from ser.formats import encoder_checks
from ser.formats.encoder_families import check_trainable
from ser.speakers import vectors_file
from ser.tracing import sources

# What is made while the workflow is read, and folders that jobs keep for themselves, would not be moved along.
if workflow.modifier.path_modifier.prefix:
    raise WorkflowError(
        "module: prefix cannot be used with this workflow: leave it out, and give the run a folder of its own "
        "(snakemake --directory FOLDER)"
    )

# What a job of several on a cluster's node has to give away (profiles/slurm): one at a time, whatever the node has.
if not workflow.is_main_process:
    workflow.register_resource("in_turn", 1)

try:
    config = schema.check(config, ROOT / "rules" / "config.schema.yaml")
    TARGETS = config["corpus"]["targets"]
    ENCODERS = resolve_encoders(config)
    # Taken out of the config: what is tuned, scored or bundled decides nothing but that, and the ablations that are `tuned`.
    GRID = config.pop("tuning")
    # How much may be set aside decides nothing of what is made of the rest.
    MOST_REJECTED = config["audio"].pop("max_rejected_share")
    ABLATIONS = resolve_tuned(resolve_ablations(config), GRID)
    METHODS = read_methods(config["calibration"]["methods"])
    SPEAKER_VECTORS = resolve_speaker_vectors(config)
    check_similarities(METHODS, SPEAKER_VECTORS)
    STUDIED = check_studied(config["evaluation"]["shift_calibration"], METHODS)
    PRIMARY = check_primary(config, ABLATIONS)
    SCORED = config.pop("scored")
    RECORDING_SETS = recordings.check_sets(SCORED, ABLATIONS, METHODS)
    BUNDLES = check_bundles(config.pop("bundles"), ABLATIONS, METHODS, config["seeds"])
    early_checks.check_heads(ABLATIONS, GRID)
    for name in ENCODERS:
        encoder_checks.check_base(name, ENCODERS[name])
        encoder_checks.check_layers(
            name, ENCODERS, ABLATIONS, config["pseudo_labels"], SPEAKER_VECTORS
        )
    for each in SPEAKER_VECTORS.values():
        if each.kind == "model":
            encoder_checks.check_speaker_model(each)
    if workflow.is_main_process:
        early_checks.check_targets(
            sys.argv[1:], ABLATIONS, GRID, {"scored": SCORED, "bundles": BUNDLES}
        )
    # Jobs read the workflow again, on a cluster on their own node: only the main process looks at the corpus.
    INDEX = (
        index.build(
            config["corpus"],
            config["encoders"] | list_models(SPEAKER_VECTORS),
            RECORDING_SETS,
            config["calibration"]["enrolment_draws"],
            count_labelled(METHODS),
        )
        if workflow.is_main_process
        else index.load()
    )
    if workflow.is_main_process:
        # With conda a job has the environment of its rule, not this one.
        if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
            check_installed([each.kind for each in SPEAKER_VECTORS.values()])
        for each in SPEAKER_VECTORS.values():
            if each.kind == "file":
                wanted = INDEX.shards | {
                    split: INDEX.recordings[split]
                    for split, settings in RECORDING_SETS.items()
                    if each.name
                    in recordings.list_files(
                        settings,
                        ABLATIONS[settings["ablation"]],
                        METHODS,
                        SPEAKER_VECTORS,
                    )
                }
                vectors_file.check_file(
                    each.name,
                    each.source,
                    [
                        f"results/manifests/{split}/shard-{shard}.csv"
                        for split, found in wanted.items()
                        for shard in found
                    ],
                )
    # Ablations whose encoder is trained with the head: what can be known of it before work is checked here.
    FINETUNED = {n: ablation for n, ablation in ABLATIONS.items() if ablation.finetune}
    for name, ablation in FINETUNED.items():
        if folder := encoder_checks.find_folder(ablation.encoder, ENCODERS):
            check_trainable(folder, f"config: ablations: {name!r}: finetune")
            check_encoder(name, ablation, folder)
        if workflow.is_main_process:
            check_size(name, ablation, index.count_labelled("train"))
    for name, encoder in ENCODERS.items():
        folder = encoder_checks.find_folder(name, ENCODERS)
        if encoder["adaptation"] != "none" and folder:
            check_trainable(folder, f"config: encoders: {name!r}: adaptation")
    encoder_checks.check_bundled(BUNDLES, ABLATIONS, ENCODERS)
    # Methods that enrol may choose of nothing; the others choose k by the A-CCC of validation speakers.
    if workflow.is_main_process and any(not each.enrolment for each in METHODS):
        check_validation(
            index.FOLDER / "validation" / "labels.csv",
            TARGETS,
            config["evaluation"]["min_utterances"],
            config["evaluation"]["constant_labels"],
        )
except DataError as error:
    raise WorkflowError(str(error)) from None

SEEDS = config["seeds"]
# Wanted where the config names groups of speakers.
GROUP_TABLES = ["results/group_table.csv"] if config["corpus"]["groups"] else []
TEST_SPLITS = INDEX.test_splits
SHARDS = INDEX.shards | INDEX.recordings
EVALUATED_SPLITS = ["validation", *TEST_SPLITS]
EVALUATED_ENCODERS = sorted({ablation.encoder for ablation in ABLATIONS.values()})
# The encoder of each seed of an ablation that is fine-tuned, with the ablation.
TUNED_ENCODERS = {
    name_encoder(name, seed): name for name in FINETUNED for seed in SEEDS
}
# Those whose cards say what a row of the table is made with.
DESCRIBED_ENCODERS = [*EVALUATED_ENCODERS, *TUNED_ENCODERS]
# What tuning found best, of each ablation that is trained with it.
WINNERS = {
    name: f"results/tuning/{ablation.tuned['ablation']}.json"
    for name, ablation in ABLATIONS.items()
    if ablation.tuned
}

# Encoders that are trained further on this corpus; the personalised ones need a vector of each speaker.
ADAPTED_ENCODERS = {n for n, e in ENCODERS.items() if e["adaptation"] != "none"}
PERSONALISED_ENCODERS = {n for n, e in ENCODERS.items() if e["adaptation"] == "papt"}
PSEUDO_LABELS = config["pseudo_labels"]


def settle_index():
    """Remove manifests that only earlier indexes made; stop where another run has replaced this one's."""
    try:
        index.settle(INDEX)
    except DataError as error:
        raise WorkflowError(str(error)) from None


def unlink_reports(dag):
    """Links in place of the logs and benchmarks of jobs that are about to run go, not what is behind them."""
    for job in dag.needrun_jobs():
        for path in map(Path, [*job.log, *filter(None, [job.benchmark])]):
            if path.is_symlink():
                path.unlink()


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


def untuned(encoder):
    """The encoder as the config names it: of one that is fine-tuned that which it was before."""
    ablation = TUNED_ENCODERS.get(encoder)
    return ABLATIONS[ablation].encoder if ablation else encoder


def trains_vectors(ablation):
    """Whether an ablation trains the speakers' vectors of its personalised encoder as well."""
    return (ABLATIONS[ablation].finetune or {}).get("vectors") == "tuned"


def owner_of_vectors(encoder):
    """The encoder whose speakers' vectors an encoder uses: itself, or what it was before it was fine-tuned."""
    own = encoder in TUNED_ENCODERS and trains_vectors(TUNED_ENCODERS[encoder])
    return encoder if own else untuned(encoder)


def encoder_file(encoder, name):
    """A file of an encoder's folder."""
    folder = "results" if encoder in TUNED_ENCODERS else "results/encoders"
    return f"{folder}/{encoder}/{name}"


def encoder_option(key):
    """A params function: one of an encoder's options, which it keeps when it is fine-tuned."""
    return lambda wildcards: ENCODERS[untuned(wildcards.encoder)][key]


def encoder_digest(wildcards):
    """The digest of the encoder's files, or the name and revision of a hub model."""
    return INDEX.encoders[wildcards.encoder]


def makes(path):
    """Whether a job of the present config makes a file."""
    makers = [
        each
        for each in workflow.rules
        if GROUP_TABLES or "results/group_table.csv" not in each.output
    ]
    matches = (product.match(path) for each in makers for product in each.products())
    return any(is_in_corpus(**match.groupdict()) for match in matches if match)


def is_in_corpus(split=None, shard=None, **others):
    return shard is None or shard in SHARDS.get(split, ())


def features_of(ablation, split, seed=None):
    """The shards of embeddings, or of frames, that an ablation's head reads; of a fine-tuned one those of a seed."""
    return shards(
        "results/{kind}/{encoder}/{split}/shard-{shard}.tfrecord",
        split,
        kind=ABLATIONS[ablation].features,
        encoder=(
            name_encoder(ablation, seed)
            if ablation in FINETUNED
            else ABLATIONS[ablation].encoder
        ),
    )


def vector_files(vectors, ablation, split):
    """The files of a split with speaker vectors, some of which an ablation has of its own."""
    names = {"ablation": ablation, "encoder": ABLATIONS[ablation].encoder}
    lists = {"seed": SEEDS, "shard": sorted(SHARDS.get(split, ()))}
    found = SPEAKER_VECTORS[vectors].list_files(split=split, **names, **lists)
    return [f"results/{path}" for path in found]


def speakers_of(ablation, split):
    """The speaker vectors that an ablation's head reads: none if it has no input for one."""
    if not ABLATIONS[ablation].reads_speakers:
        return []
    return vector_files(ABLATIONS[ablation].speaker, ablation, split)


def fitting_speakers(name):
    """Speaker vectors for the training of an ablation, by what they are for.

    Similar-speaker weighting compares training with test speakers: there alone a test file does cause training.
    """
    inputs = {
        f"{split}_speakers": speakers_of(name, split)
        for split in ("train", "validation")
    }
    if ABLATIONS[name].weighting == "similar_speakers":
        compared = ABLATIONS[name].similarity
        inputs["known_speakers"] = vector_files(compared, name, "train")
        inputs["target_speakers"] = [
            path
            for split in TEST_SPLITS
            for path in vector_files(compared, name, split)
        ]
    return inputs


def fitting_inputs(wildcards):
    """Features and speaker vectors of the training and the validation split, for training and tuning."""
    name = wildcards.ablation
    inputs = {split: features_of(name, split) for split in ("train", "validation")}
    return inputs | fitting_speakers(name)


def fitting_threads(wildcards):
    return ABLATIONS[wildcards.ablation].training["threads"]


def fitting_memory(wildcards, attempt):
    """MB: features up to `training_memory_gb`, and TensorFlow itself."""
    return attempt * int(2000 + 1000 * config["training_memory_gb"])


def seed_files(kind, ablation, split):
    """The files of one kind and split that an ablation has for each seed."""
    return [f"results/{kind}/{ablation}/seed-{seed}/{split}.parquet" for seed in SEEDS]


def compared_vectors(ablation, split, methods=METHODS):
    """The speaker vectors of a split that calibration methods compare: their files, as `vectors_NAME`."""
    compared = dict.fromkeys(["fused", *(method.similarity for method in methods)])
    return {f"vectors_{name}": vector_files(name, ablation, split) for name in compared}


wildcard_constraints:
    ablation=one_of(ABLATIONS),
    encoder=one_of([*ENCODERS, *TUNED_ENCODERS]),
    vectors=one_of(SPEAKER_VECTORS),
    labels=one_of(PSEUDO_LABELS),
    split=one_of(SHARDS),
    shard=r"\d{3}",
    seed=r"\d+",
