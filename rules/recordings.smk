# Scoring of recordings without labels, of speakers whom the study does not know: nothing is trained for them.
#
# Needs   the folders of config `scored`, as results/manifests/scored.{scored}/shard-{shard}.csv; of the ablation that one
#         names results/models/…, results/calibration/{ablation}/choices.json, calibrated predictions of the validation
#         split, the vectors that calibration compares; results/labels/train.parquet, results/labels/validation.parquet
# Makes   results/scored/{scored}.csv, results/scored/{scored}.speakers.csv, results/scored/{scored}.rejected.csv,
#         and what the rules of a test split make, with scored.{scored} as the split
#
#   snakemake --cores 8 results/scored/NAME.csv

BESIDE_THE_TABLE.add("score_recordings.py")


use rule predict_split as predict_recordings with:
    """Predict recordings of new speakers with the heads of one ablation."""
    wildcard_constraints:
        split=one_of(RECORDING_SETS),


use rule calibrate as calibrate_recordings with:
    """Calibrate one ablation's predictions of recordings of new speakers."""
    wildcard_constraints:
        split=one_of(RECORDING_SETS),


def calibration_methods(
    split,
):
    """The methods that a split is calibrated with: of recordings, without labels and known vectors, not all."""
    methods = config["calibration"]["methods"]
    if split not in RECORDING_SETS:
        return methods
    settings = RECORDING_SETS[split]
    ablation = ABLATIONS[settings["ablation"]]
    listed = recordings.list_methods(settings, ablation, METHODS, SPEAKER_VECTORS)
    return [method for method in methods if method["name"] in {m.name for m in listed}]


def recordings_settings(
    wildcards,
):
    """What decides the scores of a set of recordings, beside its audio."""
    settings = RECORDING_SETS[recordings.PREFIX + wildcards.scored]
    return {key: settings[key] for key in ("ablation", "calibration", "coverage")}


def recordings_inputs(
    wildcards,
):
    """What the scores of a set are made of: its calibrated predictions, and validation's for their errors.

    Neighbours of the speakers are found again in what calibration saw.
    """
    split = recordings.PREFIX + wildcards.scored
    ablation = RECORDING_SETS[split]["ablation"]
    return calibration_evidence(ablation, split) | {
        "calibrated": seed_files("calibrated", ablation, split),
        "validation": seed_files("calibrated", ablation, "validation"),
        "choices": f"results/calibration/{ablation}/choices.json",
        "facts": shards("results/audio/{split}/shard-{shard}.parquet", split),
    }


rule score_recordings:
    """Score recordings of new speakers, without labels."""
    input:
        unpack(recordings_inputs),
        train_labels="results/labels/train.parquet",
        validation_labels="results/labels/validation.parquet",
    output:
        scores="results/scored/{scored}.csv",
        speakers="results/scored/{scored}.speakers.csv",
        rejected="results/scored/{scored}.rejected.csv",
    log:
        "results/logs/score_recordings/{scored}.log",
    benchmark:
        "results/benchmarks/score_recordings/{scored}.tsv"
    wildcard_constraints:
        scored=one_of(split.removeprefix(recordings.PREFIX) for split in RECORDING_SETS),
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("score_recordings.py"),
        settings=recordings_settings,
        seeds=SEEDS,
        targets=TARGETS,
        calibration=config["calibration"],
        min_utterances=config["evaluation"]["min_utterances"],
        label_range=config["corpus"]["label_range"],
    message:
        "Scores of the recordings {wildcards.scored} by {params.settings[ablation]}"
    script:
        "../workflow_scripts/score_recordings.py"
