"""Calibrate an ablation's predictions of one split, of its labels with those of enrolled utterances at most."""

from ser import log
from ser.evaluation.calibration import calibrate_split
from ser.evaluation.calibration_inputs import name_files

log.to_file(snakemake.log[0])
options = snakemake.params.calibration
calibrate_split(
    train_labels=snakemake.input.train_labels,
    choices=snakemake.input.choices,
    train=name_files(snakemake.input, "train_"),
    split=name_files(snakemake.input),
    seeds=snakemake.params.seeds,
    targets=snakemake.params.targets,
    methods=options["methods"],
    enrolment_draws=options["enrolment_draws"],
    min_reference_utterances=options["min_reference_utterances"],
    random_draws=options["random_draws"],
    random_seed=options["random_seed"],
    paths=snakemake.output,
)
