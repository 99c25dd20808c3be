"""Write the labels, and an ablation's predictions by one calibration, as a database in audformat."""

from ser import log
from ser.report.audformat_export import export_predictions

log.to_file(snakemake.log[0])
export_predictions(
    labels=dict(zip(snakemake.params.splits, snakemake.input.labels, strict=True)),
    calibrated=snakemake.input.calibrated,
    calibration=snakemake.wildcards.calibration,
    targets=snakemake.params.targets,
    label_range=snakemake.params.label_range,
    header=snakemake.output.header,
    usage=snakemake.params.usage,
)
