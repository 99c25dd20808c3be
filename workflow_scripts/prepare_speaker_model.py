"""Bring a model for speaker verification from the hub or a local folder into the workflow's form."""

from pathlib import Path

from ser import log
from ser.speakers.speaker_models import prepare_model

log.to_file(snakemake.log[0])
prepare_model(
    base=snakemake.params.base,
    revision=snakemake.params.revision,
    out_dir=Path(snakemake.output.card).parent,
)
