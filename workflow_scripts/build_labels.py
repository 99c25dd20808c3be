"""Write the labels of one split as Parquet."""

from ser import log
from ser.corpus.labels import build_labels

log.to_file(snakemake.log[0])
build_labels(snakemake.input.sheet, snakemake.output[0], snakemake.params.targets)
