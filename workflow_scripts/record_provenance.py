"""Write down the config, code, versions and commit that the tables were made with."""

import json

from ser import log
from ser.tracing.provenance import record_provenance

log.to_file(snakemake.log[0])
record_provenance(
    config=json.loads(snakemake.params.config),
    ablations=snakemake.params.ablations,
    scripts=snakemake.params.scripts,
    table=snakemake.input.table,
    beside=snakemake.input.beside,
    path=snakemake.output[0],
)
