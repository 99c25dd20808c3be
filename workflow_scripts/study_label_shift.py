"""Study how far test speakers are from the training set, and what that does to their scores."""

from itertools import product

from ser import log
from ser.evaluation.label_shift import study_label_shift

log.to_file(snakemake.log[0])
params = snakemake.params
study_label_shift(
    speaker_table=snakemake.input.speaker_table,
    train_labels=snakemake.input.train_labels,
    labels=dict(zip(params.splits, snakemake.input.labels, strict=True)),
    train_features=dict(zip(params.encoders, snakemake.input.train_features, strict=True)),
    features=dict(zip(product(params.encoders, params.splits), snakemake.input.features, strict=True)),
    ablations=params.ablations,
    targets=params.targets,
    baseline=params.baseline,
    calibration=params.calibration,
    bootstrap=params.bootstrap,
    shifts=snakemake.output.shifts,
    correlations=snakemake.output.correlations,
    plot=snakemake.output.plot,
)
