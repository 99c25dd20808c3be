"""Bring an encoder from the hub or a local folder into the workflow's form."""

from pathlib import Path

from ser import log
from ser.encoders import pretrained

log.to_file(snakemake.log[0])
pretrained.prepare(
    base=snakemake.params.base,
    revision=snakemake.params.revision,
    out_dir=Path(snakemake.output.card).parent,
)
