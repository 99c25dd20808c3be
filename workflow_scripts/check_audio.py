"""Stop where more audio was set aside than the config allows; else say on the console what was."""

import os

from ser import log
from ser.corpus.set_aside import check_share

console = os.fdopen(os.dup(2), "w")
log.to_file(snakemake.log[0])
for line in check_share(snakemake.input.utterances, snakemake.params.most, snakemake.output[0]):
    print(line, file=console, flush=True)
