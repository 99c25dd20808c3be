# Evaluation: predictions calibrated by PLDC, the protocol checked, the tables.
#
# Needs   results/predictions/…, results/speaker_vectors/… and results/enrolment_vectors/{ablation}/seed-{seed}/{split}.parquet,
#         results/labels/{split}.parquet, results/encoders/{encoder}/card.json and heard.txt,
#         results/manifests/{split}/shard-{shard}.csv of test splits, results/metadata/rejected.csv and set_aside.json; where a method compares them,
#         results/speakers/… and results/encoder_summaries/{encoder}/{split}.parquet; where a method enrols speakers with
#         labels, results/manifests/{split}/enrolment_labels.csv; with `corpus.groups`,
#         results/manifests/{split}/groups.csv
# Makes   results/calibration/{ablation}/choices.json, results/calibrated/{ablation}/seed-{seed}/{split}.parquet,
#         results/protocol.json, results/ablation_table.csv, results/contrast_table.csv, results/speaker_table.csv,
#         results/speaker_summary.csv, results/enrolment_curve.csv, with `corpus.groups` results/group_table.csv,
#         results/label_shift.csv, results/label_shift_correlations.csv, results/label_shift.svg

POLICY = {
    key: config["evaluation"][key] for key in ("min_utterances", "constant_labels")
}
BOOTSTRAP = {
    "draws": config["evaluation"]["bootstrap_draws"],
    "seed": config["evaluation"]["bootstrap_seed"],
}
# What the table says of an ablation; the rest of its settings is no reason to score again.
DESCRIBED = ("encoder", "finetune", "speaker", "fusion", "head", "weighting")
DESCRIBED += ("normalise", "enrolment", "attended", "permuted")
CALIBRATED = "results/calibrated/{ablation}/seed-{seed}/{split}.parquet"


def calibration_evidence(
    ablation,
    split,
):
    """A split's predictions and vectors, the training speakers' vectors; of its labels those of enrolled utterances.

    These, and no others, are in a file of their own, and only where a method asks for them.
    """
    methods = read_methods(calibration_methods(split))
    train = {
        f"train_{name}": paths
        for name, paths in compared_vectors(ablation, "train", methods).items()
    }
    files = {"predictions": seed_files("predictions", ablation, split)}
    if count_enrolled(methods):
        files["enrolment"] = seed_files("enrolment_vectors", ablation, split)
    if count_labelled(methods):
        files["enrolment_labels"] = f"results/manifests/{split}/enrolment_labels.csv"
    return train | files | compared_vectors(ablation, split, methods)


def calibration_inputs(
    wildcards,
):
    """What calibration may see of a split, or of validation."""
    return calibration_evidence(
        wildcards.ablation, wildcards.get("split", "validation")
    )


def calibration_settings(
    wildcards,
):
    """The part of the config that decides how a split is calibrated."""
    return config["calibration"] | {"methods": calibration_methods(wildcards.split)}


def enrolment_digest(
    wildcards,
):
    """The digest of the labels that speakers are enrolled with, where a method does so."""
    return INDEX.enrolment.get(wildcards.get("split", "validation"))


rule choose_calibration:
    """Choose k, alpha and the gate of each calibration on validation speakers."""
    input:
        unpack(calibration_inputs),
        train_labels="results/labels/train.parquet",
        validation_labels="results/labels/validation.parquet",
    output:
        "results/calibration/{ablation}/choices.json",
    log:
        "results/logs/choose_calibration/{ablation}.log",
    benchmark:
        "results/benchmarks/choose_calibration/{ablation}.tsv"
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("choose_calibration.py"),
        seeds=SEEDS,
        targets=TARGETS,
        calibration=config["calibration"],
        enrolment=enrolment_digest,
        policy=POLICY,
    message:
        "Choosing k and alpha of ablation {wildcards.ablation} on validation speakers"
    script:
        "../workflow_scripts/choose_calibration.py"


rule calibrate:
    """Calibrate one ablation's predictions of one split."""
    input:
        unpack(calibration_inputs),
        train_labels="results/labels/train.parquet",
        choices="results/calibration/{ablation}/choices.json",
    output:
        expand(
            "results/calibrated/{{ablation}}/seed-{seed}/{{split}}.parquet", seed=SEEDS
        ),
    log:
        "results/logs/calibrate/{ablation}/{split}.log",
    benchmark:
        "results/benchmarks/calibrate/{ablation}/{split}.tsv"
    wildcard_constraints:
        split=one_of(EVALUATED_SPLITS),
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("calibrate.py"),
        seeds=SEEDS,
        targets=TARGETS,
        calibration=calibration_settings,
        enrolment=enrolment_digest,
    message:
        "Calibrating {wildcards.split} of ablation {wildcards.ablation}"
    script:
        "../workflow_scripts/calibrate.py"


rule check_protocol:
    """Check that no speaker crosses splits and no test label reached calibration."""
    input:
        labels=expand(
            "results/labels/{split}.parquet", split=["train", *EVALUATED_SPLITS]
        ),
        choices=expand(
            "results/calibration/{ablation}/choices.json", ablation=ABLATIONS
        ),
        calibrated=expand(
            CALIBRATED, ablation=ABLATIONS, seed=SEEDS, split=EVALUATED_SPLITS
        ),
        enrolment_labels=expand(
            "results/manifests/{split}/enrolment_labels.csv",
            split=EVALUATED_SPLITS if count_labelled(METHODS) else [],
        ),
        rejected="results/metadata/rejected.csv",
        set_aside="results/metadata/set_aside.json",
    output:
        "results/protocol.json",
    log:
        "results/logs/check_protocol/check_protocol.log",
    benchmark:
        "results/benchmarks/check_protocol/check_protocol.tsv"
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("check_protocol.py"),
        splits=["train", *EVALUATED_SPLITS],
        ablations=list(ABLATIONS),
        targets=TARGETS,
        methods=config["calibration"]["methods"],
        policy=POLICY,
    message:
        "Checking that no speaker crosses splits and no test label reached calibration"
    script:
        "../workflow_scripts/check_protocol.py"


rule score:
    """Score everything: ablation_table.csv and the tables by speaker."""
    input:
        protocol="results/protocol.json",
        train_labels="results/labels/train.parquet",
        labels=expand("results/labels/{split}.parquet", split=EVALUATED_SPLITS),
        calibrated=expand(
            CALIBRATED, ablation=ABLATIONS, seed=SEEDS, split=EVALUATED_SPLITS
        ),
        choices=expand(
            "results/calibration/{ablation}/choices.json", ablation=ABLATIONS
        ),
        cards=[encoder_file(encoder, "card.json") for encoder in DESCRIBED_ENCODERS],
        heard=expand("results/encoders/{encoder}/heard.txt", encoder=EVALUATED_ENCODERS),
        test_manifests=[
            path
            for split in TEST_SPLITS
            for path in shards("results/manifests/{split}/shard-{shard}.csv", split)
        ],
    output:
        table=report(
            "results/ablation_table.csv",
            caption="report/ablation_table.rst",
            category="Scores",
        ),
        contrast_table=report(
            "results/contrast_table.csv",
            caption="report/contrast_table.rst",
            category="Scores",
        ),
        speaker_table=report(
            "results/speaker_table.csv",
            caption="report/speaker_table.rst",
            category="Speakers",
        ),
        speaker_summary=report(
            "results/speaker_summary.csv",
            caption="report/speaker_summary.rst",
            category="Speakers",
        ),
        enrolment_curve=report(
            "results/enrolment_curve.csv",
            caption="report/enrolment_curve.rst",
            category="Scores",
        ),
    log:
        "results/logs/score/score.log",
    benchmark:
        "results/benchmarks/score/score.tsv"
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=4000,
    params:
        *library("score.py"),
        splits=EVALUATED_SPLITS,
        encoders=EVALUATED_ENCODERS,
        tuned=list(TUNED_ENCODERS),
        trained_on={
            name: ENCODERS[name]["trained_on"]
            for name in EVALUATED_ENCODERS
            if ENCODERS[name]["trained_on"]
        },
        ablations={
            name: {key: getattr(ablation, key) for key in DESCRIBED}
            for name, ablation in ABLATIONS.items()
        },
        personalised=[  # these need all audio of a test speaker
            name
            for name, ablation in ABLATIONS.items()
            if ablation.encoder in PERSONALISED_ENCODERS
        ],
        methods=config["calibration"]["methods"],
        targets=TARGETS,
        baseline=config["baseline"],
        studied=STUDIED,
        primary=PRIMARY,
        policy=POLICY,
    message:
        "Scoring {params.splits}"
    script:
        "../workflow_scripts/score.py"


rule score_groups:
    """Score groups of speakers (config: corpus.groups), and the gaps between them."""
    input:
        protocol="results/protocol.json",
        groups=expand("results/manifests/{split}/groups.csv", split=EVALUATED_SPLITS),
        train_labels="results/labels/train.parquet",
        labels=expand("results/labels/{split}.parquet", split=EVALUATED_SPLITS),
        calibrated=expand(
            CALIBRATED, ablation=ABLATIONS, seed=SEEDS, split=EVALUATED_SPLITS
        ),
    output:
        report(
            "results/group_table.csv",
            caption="report/group_table.rst",
            category="Groups",
        ),
    log:
        "results/logs/score_groups/score_groups.log",
    benchmark:
        "results/benchmarks/score_groups/score_groups.tsv"
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=4000,
    params:
        *library("score_groups.py"),
        splits=EVALUATED_SPLITS,
        digests=[INDEX.groups.get(split) for split in EVALUATED_SPLITS],
        ablations=list(ABLATIONS),
        methods=config["calibration"]["methods"],
        targets=TARGETS,
        baseline=config["baseline"],
        policy=POLICY,
    message:
        "Scoring groups of speakers of {params.splits}"
    script:
        "../workflow_scripts/score_groups.py"


rule study_label_shift:
    """Hold the shift of each test speaker's features and labels against performance."""
    input:
        speaker_table="results/speaker_table.csv",
        train_labels="results/labels/train.parquet",
        labels=expand("results/labels/{split}.parquet", split=TEST_SPLITS),
        train_features=expand(
            "results/encoder_summaries/{encoder}/train.parquet",
            encoder=EVALUATED_ENCODERS,
        ),
        features=expand(
            "results/encoder_summaries/{encoder}/{split}.parquet",
            encoder=EVALUATED_ENCODERS,
            split=TEST_SPLITS,
        ),
    output:
        shifts=report(
            "results/label_shift.csv",
            caption="report/label_shift.rst",
            category="Label shift",
        ),
        correlations=report(
            "results/label_shift_correlations.csv",
            caption="report/label_shift_correlations.rst",
            category="Label shift",
        ),
        plot=report(
            "results/label_shift.svg",
            caption="report/label_shift.rst",
            category="Label shift",
        ),
    log:
        "results/logs/study_label_shift/study_label_shift.log",
    benchmark:
        "results/benchmarks/study_label_shift/study_label_shift.tsv"
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("study_label_shift.py"),
        splits=TEST_SPLITS,
        encoders=EVALUATED_ENCODERS,
        ablations={name: ablation.encoder for name, ablation in ABLATIONS.items()},
        targets=TARGETS,
        baseline=config["baseline"],
        calibration=STUDIED,
        bootstrap=BOOTSTRAP,
    message:
        "Shift of features and labels of each test speaker, against performance"
    script:
        "../workflow_scripts/study_label_shift.py"
