# Heads: one job trains all seeds of an ablation, one predicts a test split with them.
#
# Needs   results/embeddings/… or results/frames/…, results/speakers/… where the ablation uses speaker information,
#         results/labels/train.parquet, results/labels/validation.parquet; the heads of ablations that are fine-tuned are
#         made with their encoders (rules/finetuning.smk), and predict all splits here
# Makes   results/models/{ablation}/seed-{seed}/model.keras, history.csv, and for every split
#         results/predictions/…, results/speaker_vectors/{ablation}/seed-{seed}/{split}.parquet, for all but the training
#         split results/enrolment_vectors/{ablation}/seed-{seed}/{split}.parquet

PREDICTED = ["predictions", "speaker_vectors"]


def training_inputs(
    wildcards,
):
    """What the models of an ablation are made of: with `tuned` the settings that tuning found best too."""
    inputs = fitting_inputs(wildcards)
    if wildcards.ablation in WINNERS:
        inputs["winner"] = WINNERS[wildcards.ablation]
    return inputs


def ablation_settings(
    wildcards,
):
    """Everything in the config that decides an ablation's models."""
    return ABLATIONS[wildcards.ablation].to_dict()


def predicted_files(
    wildcards,
):
    """The paths of what heads predict, but for the kind, seed and split, which the job fills in."""
    return f"results/{{kind}}/{wildcards.ablation}/seed-{{seed}}/{{split}}.parquet"


rule train_ablation:
    """Train the heads of one ablation, all seeds in one job."""
    input:
        unpack(training_inputs),
        train_labels="results/labels/train.parquet",
        validation_labels="results/labels/validation.parquet",
    output:
        models=expand("results/models/{{ablation}}/seed-{seed}/model.keras", seed=SEEDS),
        history=expand(
            "results/models/{{ablation}}/seed-{seed}/history.csv", seed=SEEDS
        ),
        predicted=expand(
            "results/{kind}/{{ablation}}/seed-{seed}/{split}.parquet",
            kind=PREDICTED,
            seed=SEEDS,
            split=["train", "validation"],
        ),
        enrolment=expand(
            "results/enrolment_vectors/{{ablation}}/seed-{seed}/validation.parquet",
            seed=SEEDS,
        ),
    log:
        "results/logs/train_ablation/{ablation}.log",
    benchmark:
        "results/benchmarks/train_ablation/{ablation}.tsv"
    wildcard_constraints:
        ablation=one_of(set(ABLATIONS) - set(FINETUNED)),
    conda:
        "../envs/heads.yaml"
    threads: fitting_threads
    resources:
        mem_mb=fitting_memory,
    params:
        *library("train_ablation.py"),
        ablation=ablation_settings,
        folder="results/models/{ablation}",
        predicted=predicted_files,
        tensorboard="results/logs/tensorboard/{ablation}",
        seeds=SEEDS,
        targets=TARGETS,
    message:
        "Training ablation {wildcards.ablation}"
    script:
        "../workflow_scripts/train_ablation.py"


def predicted_inputs(
    wildcards,
):
    """The features of a split that an ablation's heads read, and its speakers' vectors.

    The heads of a fine-tuned ablation read features of their own, seed by seed.
    """
    name, split = wildcards.ablation, wildcards.split
    if name in FINETUNED:
        features = {f"seed_{seed}": features_of(name, split, seed) for seed in SEEDS}
    else:
        features = {"embeddings": features_of(name, split)}
    return features | {"speakers": speakers_of(name, split)}


rule predict_split:
    """Predict one test split with the heads of one ablation."""
    input:
        unpack(predicted_inputs),
        models=expand("results/models/{{ablation}}/seed-{seed}/model.keras", seed=SEEDS),
    output:
        expand(
            "results/{kind}/{{ablation}}/seed-{seed}/{{split}}.parquet",
            kind=[*PREDICTED, "enrolment_vectors"],
            seed=SEEDS,
        ),
    log:
        "results/logs/predict_split/{ablation}/{split}.log",
    benchmark:
        "results/benchmarks/predict_split/{ablation}/{split}.tsv"
    wildcard_constraints:
        split=one_of(TEST_SPLITS),
    conda:
        "../envs/heads.yaml"
    threads: fitting_threads
    resources:
        mem_mb=4000,
    params:
        *library("predict_split.py"),
        ablation=ablation_settings,
        predicted=predicted_files,
        seeds=SEEDS,
        targets=TARGETS,
    message:
        "Predictions of ablation {wildcards.ablation} for split {wildcards.split}"
    script:
        "../workflow_scripts/predict_split.py"


use rule predict_split as predict_heard with:
    """Predict the splits that a fine-tuned ablation was trained and chosen on."""
    wildcard_constraints:
        ablation=one_of(FINETUNED),
        split="train|validation",
