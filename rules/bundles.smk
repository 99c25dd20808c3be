# Bundles: a trained ablation as one file, which `runner/` scores recordings with.
#
# Needs   of the ablation that config `bundles` names results/models/…, its encoders' folders, results/calibration/…,
#         results/calibrated/{ablation}/seed-{seed}/validation.parquet and the training speakers' vectors that
#         calibration compares; audio facts and averaged MFCCs of the training split; results/labels/train.parquet,
#         results/labels/validation.parquet; with a personalised encoder what places new speakers
# Makes   results/bundles/{bundle}.zip, and who its references are, results/bundles/{bundle}.speakers.csv
#
#   snakemake --cores 2 results/bundles/NAME.zip

from ser.config.bundles import list_bundled
from ser.config.calibration_methods import Method

BESIDE_THE_TABLE.add("make_bundle.py")


def bundled_methods(
    settings,
):
    """The calibration of a bundle, and the methods that do the same with enrolled utterances."""
    known = {method.name: method for method in METHODS}
    return list_bundled(known.get(settings["calibration"], Method("none")), METHODS)


def placing_encoder(
    ablation,
):
    """The encoder that says whom a new speaker resembles, for a personalised one; else None."""
    encoder = ABLATIONS[ablation].encoder
    return ENCODERS[encoder]["similarity"] if encoder in PERSONALISED_ENCODERS else None


def bundle_inputs(
    wildcards,
):
    """What a bundle is made of: nothing of a test split."""
    settings = BUNDLES[wildcards.bundle]
    name, seeds = settings["ablation"], settings["seeds"]
    encoder = ABLATIONS[name].encoder
    if name in FINETUNED:
        read = [name_encoder(name, seed) for seed in seeds]
    else:
        read = [encoder]
    compared = {method.similarity for method in bundled_methods(settings)}
    placing = placing_encoder(name)
    inputs = {
        "heads": [f"results/models/{name}/seed-{seed}/model.keras" for seed in seeds],
        "validation": [
            f"results/calibrated/{name}/seed-{seed}/validation.parquet"
            for seed in seeds
        ],
        "choices": f"results/calibration/{name}/choices.json",
        "facts": shards("results/audio/{split}/shard-{shard}.parquet", "train"),
        "speakers": shards("results/speakers/{split}/shard-{shard}.json", "train"),
    }
    inputs |= {
        f"train_{kind}": paths
        for kind, paths in compared_vectors(name, "train").items()
    }
    cards = {"cards": read, "compared": [encoder] if "encoder" in compared else []}
    cards["placing"] = [placing] if placing else []
    inputs |= {
        kind: [encoder_file(each, "card.json") for each in names]
        for kind, names in cards.items()
    }
    every = {each for names in cards.values() for each in names}
    inputs["weights"] = [
        encoder_file(each, "model.safetensors") for each in sorted(every)
    ]
    if placing:
        inputs["vectors"] = encoder_file(encoder, "adaptation.safetensors")
        inputs["means"] = speaker_means_of(
            ENCODERS[encoder], ENCODERS[encoder]["splits"]
        )
    return inputs


def bundle_settings(
    wildcards,
):
    """Everything in the config that decides a bundle, but for what its inputs hold."""
    settings = BUNDLES[wildcards.bundle]
    name = settings["ablation"]
    encoder = ENCODERS[ABLATIONS[name].encoder]
    placing = placing_encoder(name)
    return settings | {
        "methods": [vars(method) for method in bundled_methods(settings)],
        "settings": ABLATIONS[name].to_dict(),
        "encoder": {
            key: encoder[key] for key in ("dtype", "frames_layer", "trained_on")
        },
        "placed": encoder["neighbours"] if placing else None,
        "placing_dtype": ENCODERS[placing]["dtype"] if placing else None,
        "min_utterances": config["evaluation"]["min_utterances"],
        "min_reference_utterances": config["calibration"]["min_reference_utterances"],
    }


rule make_bundle:
    """Make one file of an ablation that scores recordings elsewhere."""
    input:
        unpack(bundle_inputs),
        train_labels="results/labels/train.parquet",
        validation_labels="results/labels/validation.parquet",
    output:
        bundle="results/bundles/{bundle}.zip",
        speakers="results/bundles/{bundle}.speakers.csv",
    log:
        "results/logs/make_bundle/{bundle}.log",
    benchmark:
        "results/benchmarks/make_bundle/{bundle}.tsv"
    wildcard_constraints:
        bundle=one_of(BUNDLES),
    conda:
        "../envs/bundles.yaml"
    resources:
        mem_mb=8000,
    params:
        *library("make_bundle.py"),
        settings=bundle_settings,
        all_seeds=SEEDS,
        targets=TARGETS,
        label_range=config["corpus"]["label_range"],
        audio=config["audio"],
    message:
        "Bundle {wildcards.bundle}: {params.settings[ablation]}, {params.settings[calibration]}"
    script:
        "../workflow_scripts/make_bundle.py"
