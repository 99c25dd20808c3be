"""Vectors of the speakers of one shard: means over their utterances."""

from ser import log
from ser.speakers.averages import average_shard

log.to_file(snakemake.log[0])
average_shard(snakemake.input[0], snakemake.params.kind, snakemake.params.layer, snakemake.output[0])
