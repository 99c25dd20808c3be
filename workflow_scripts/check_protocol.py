"""Stop before scoring if the protocol of the study is broken."""

from pathlib import Path

from ser import log
from ser.evaluation.protocol import check_protocol

log.to_file(snakemake.log[0])
params = snakemake.params
check_protocol(
    labels=dict(zip(params.splits, snakemake.input.labels, strict=True)),
    choices=dict(zip(params.ablations, snakemake.input.choices, strict=True)),
    calibrated=snakemake.input.calibrated,
    methods=params.methods,
    targets=params.targets,
    policy=params.policy,
    path=snakemake.output[0],
    rejected=snakemake.input.rejected,
    enrolment_labels={Path(path).parts[-2]: path for path in snakemake.input.enrolment_labels},
)
