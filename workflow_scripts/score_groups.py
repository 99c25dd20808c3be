"""Score groups of speakers: the group table."""

from ser import log
from ser.evaluation.groups import score_groups

log.to_file(snakemake.log[0])
params = snakemake.params
score_groups(
    groups=dict(zip(params.splits, snakemake.input.groups, strict=True)),
    labels=dict(zip(params.splits, snakemake.input.labels, strict=True)),
    train_labels=snakemake.input.train_labels,
    calibrated=snakemake.input.calibrated,
    ablations=params.ablations,
    methods=params.methods,
    targets=params.targets,
    baseline=params.baseline,
    policy=params.policy,
    path=snakemake.output[0],
)
