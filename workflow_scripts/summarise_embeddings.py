"""Summarise the embeddings of one split by speaker."""

from ser import log
from ser.encoders.speaker_summaries import summarise_embeddings

log.to_file(snakemake.log[0])
summarise_embeddings(snakemake.input.embeddings, snakemake.output[0])
