"""The vectors of a split's speakers, each with that of another one."""

from ser import log
from ser.speakers.averages import permute_speakers

log.to_file(snakemake.log[0])
permute_speakers(snakemake.input, snakemake.output[0])
