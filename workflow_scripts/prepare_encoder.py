"""Bring a HuBERT from the hub or a local folder into the workflow's form."""

from pathlib import Path

from ser import encoder, log

log.to_file(snakemake.log[0])
encoder.prepare(
    base=snakemake.params.base,
    revision=snakemake.params.revision,
    out_dir=Path(snakemake.output.card).parent,
)
