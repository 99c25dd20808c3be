# Fine-tuning: the encoder of one seed of an ablation and its head, trained together on the labels.
#
# Needs   results/encoders/{encoder}/, results/audio/{split}/shard-{shard}.parquet, the audio files, the labels of the
#         training and the validation split; results/speakers/… where the ablation uses speaker information, and
#         results/speaker_embeddings/{encoder}/… where the encoder is a personalised one
# Makes   results/finetuned/{ablation}/seed-{seed}/ with training.csv and, with `vectors: tuned`, the speakers' vectors
#         in adaptation.safetensors; results/models/{ablation}/seed-{seed}/model.keras
#         and history.csv
#
# What the tuned encoder makes of each shard is cached as every encoder's (rules/encoders.smk), and predictions are made
# of that (rules/heads.smk): a test file trains nothing.

FINETUNING_CODE = library("finetune_ablation.py")
# Those that train the vectors of a personalised encoder as well.
VECTORED = {name for name in FINETUNED if trains_vectors(name)}


def finetuning_inputs(
    wildcards,
):
    """The encoder that is tuned, what it hears and what it learns."""
    name = wildcards.ablation
    encoder = ABLATIONS[name].encoder
    inputs = fitting_speakers(name)
    for name in ("card.json", "heard.txt", "model.safetensors"):
        inputs[name.split(".")[0]] = encoder_file(encoder, name)
    for split in ("train", "validation"):
        inputs[f"{split}_facts"] = shards(
            "results/audio/{split}/shard-{shard}.parquet", split
        )
        inputs[f"{split}_labels"] = f"results/labels/{split}.parquet"
        if encoder in PERSONALISED_ENCODERS and wildcards.ablation not in VECTORED:
            inputs[f"{split}_vectors"] = shards(
                "results/speaker_embeddings/{encoder}/{split}/shard-{shard}.json",
                split,
                encoder=encoder,
            )
    if wildcards.ablation in VECTORED:
        heard = {*ENCODERS[encoder]["splits"], "train", "validation"}
        inputs["speaker_vectors"] = encoder_file(encoder, "adaptation.safetensors")
        inputs["speaker_means"] = speaker_means_of(ENCODERS[encoder], sorted(heard))
    return inputs


def finetuning_memory(
    wildcards,
    attempt,
):
    """MB: the model and what its gradient needs, and up to `training_memory_gb` of what is computed once."""
    return attempt * int(8000 + 1000 * config["training_memory_gb"])


def tuned_neighbours(
    wildcards,
):
    """How many speakers' vectors are averaged for one without, where vectors are trained; else nothing."""
    name = wildcards.ablation
    return ENCODERS[ABLATIONS[name].encoder]["neighbours"] if name in VECTORED else None


rule finetune_ablation:
    """Train the encoder and the head of one seed of an ablation together."""
    input:
        unpack(finetuning_inputs),
    output:
        card="results/finetuned/{ablation}/seed-{seed}/card.json",
        config="results/finetuned/{ablation}/seed-{seed}/config.json",
        preprocessor="results/finetuned/{ablation}/seed-{seed}/preprocessor_config.json",
        weights="results/finetuned/{ablation}/seed-{seed}/model.safetensors",
        heard="results/finetuned/{ablation}/seed-{seed}/heard.txt",
        curve="results/finetuned/{ablation}/seed-{seed}/training.csv",
        head="results/models/{ablation}/seed-{seed}/model.keras",
        history="results/models/{ablation}/seed-{seed}/history.csv",
    log:
        "results/logs/finetune_ablation/{ablation}/seed-{seed}.log",
    benchmark:
        "results/benchmarks/finetune_ablation/{ablation}/seed-{seed}.tsv"
    wildcard_constraints:
        ablation=one_of(FINETUNED.keys() - VECTORED),
        seed=one_of(map(str, SEEDS)),
    conda:
        "../envs/finetuning.yaml"
    threads: lambda wildcards: ABLATIONS[wildcards.ablation].finetune["threads"]
    resources:
        mem_mb=finetuning_memory,
    params:
        *FINETUNING_CODE,
        ablation=ablation_settings,
        neighbours=tuned_neighbours,
        targets=TARGETS,
        audio=config["audio"],
        device=lambda wildcards: ENCODERS[ABLATIONS[wildcards.ablation].encoder][
            "device"
        ],
        checkpoint="results/.checkpoints/finetuned/{ablation}/seed-{seed}.pt",
        tensorboard="results/logs/tensorboard/{ablation}/seed-{seed}",
        fingerprint=" ".join(FINETUNING_CODE),
    message:
        "Fine-tuning ablation {wildcards.ablation}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/finetune_ablation.py"


use rule finetune_ablation as finetune_ablation_with_vectors with:
    """Train the encoder, its speakers' vectors and the head of one seed of an ablation together."""
    output:
        card="results/finetuned/{ablation}/seed-{seed}/card.json",
        config="results/finetuned/{ablation}/seed-{seed}/config.json",
        preprocessor="results/finetuned/{ablation}/seed-{seed}/preprocessor_config.json",
        weights="results/finetuned/{ablation}/seed-{seed}/model.safetensors",
        heard="results/finetuned/{ablation}/seed-{seed}/heard.txt",
        curve="results/finetuned/{ablation}/seed-{seed}/training.csv",
        vectors="results/finetuned/{ablation}/seed-{seed}/adaptation.safetensors",
        head="results/models/{ablation}/seed-{seed}/model.keras",
        history="results/models/{ablation}/seed-{seed}/history.csv",
    wildcard_constraints:
        ablation=one_of(VECTORED),
        seed=one_of(map(str, SEEDS)),
