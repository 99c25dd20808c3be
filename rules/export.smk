# Export: predictions and labels in audformat, the field's database format.
#
# Needs   results/calibrated/{ablation}/seed-{seed}/{split}.parquet, results/labels/{split}.parquet
# Makes   results/exported/{ablation}/{calibration}/db.yaml and its tables, where it is asked for

from ser.corpus.audformat import read_usage
from ser.corpus.layouts import find_layout

EXPORTED = [method.name for method in METHODS if method.neighbours != "random"]


def source_usage(
    wildcards,
):
    """What the corpus may be used for, where it is a database that says so."""
    if config["corpus"]["layout"] != "audformat":
        return "other"
    return read_usage(find_layout(config["corpus"]).sheet)


rule export_predictions:
    """Predictions and labels of one ablation as an audformat database."""
    input:
        labels=expand("results/labels/{split}.parquet", split=EVALUATED_SPLITS),
        calibrated=expand(
            "results/calibrated/{{ablation}}/seed-{seed}/{split}.parquet",
            seed=SEEDS,
            split=EVALUATED_SPLITS,
        ),
    output:
        header="results/exported/{ablation}/{calibration}/db.yaml",
        files="results/exported/{ablation}/{calibration}/db.files.csv",
        labels=expand(
            "results/exported/{{ablation}}/{{calibration}}/db.labels.{split}.csv",
            split=EVALUATED_SPLITS,
        ),
        predictions=expand(
            "results/exported/{{ablation}}/{{calibration}}/db.predictions.{split}.seed-{seed}.csv",
            split=EVALUATED_SPLITS,
            seed=SEEDS,
        ),
    log:
        "results/logs/export_predictions/{ablation}/{calibration}.log",
    benchmark:
        "results/benchmarks/export_predictions/{ablation}/{calibration}.tsv"
    wildcard_constraints:
        calibration=one_of(["none", *EXPORTED]),
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=2000,
    params:
        *library("export_predictions.py"),
        splits=EVALUATED_SPLITS,
        targets=TARGETS,
        label_range=config["corpus"]["label_range"],
        usage=source_usage,
    message:
        "Predictions of {wildcards.ablation} with {wildcards.calibration}, in audformat"
    script:
        "../workflow_scripts/export_predictions.py"
