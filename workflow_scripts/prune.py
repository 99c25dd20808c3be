"""Remove the files under results/ that the present config does not make."""

from pathlib import Path

from ser import log
from ser.tracing import orphans

log.to_file(snakemake.log[0])
orphans.remove(snakemake.params.orphans, Path("results"))
