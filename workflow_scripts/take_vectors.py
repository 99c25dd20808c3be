"""Vectors of the speakers of one shard, from a file that another tool made."""

from ser import log
from ser.speakers.vectors_file import take_shard

log.to_file(snakemake.log[0])
take_shard(snakemake.wildcards.vectors, snakemake.params.file, snakemake.input.manifest, snakemake.output[0])
