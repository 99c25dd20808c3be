"""Choose k, alpha and the gate of an ablation's calibrations on validation speakers."""

from ser import log
from ser.evaluation.calibration import choose_calibration
from ser.evaluation.calibration_inputs import name_files

log.to_file(snakemake.log[0])
options = snakemake.params.calibration
choose_calibration(
    train_labels=snakemake.input.train_labels,
    validation_labels=snakemake.input.validation_labels,
    train=name_files(snakemake.input, "train_"),
    validation=name_files(snakemake.input),
    seeds=snakemake.params.seeds,
    targets=snakemake.params.targets,
    methods=options["methods"],
    k=options["k"],
    alpha=options["alpha"],
    gate=options["gate"],
    enrolment_draws=options["enrolment_draws"],
    min_reference_utterances=options["min_reference_utterances"],
    policy=snakemake.params.policy,
    path=snakemake.output[0],
)
