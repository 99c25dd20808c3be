"""Write a model card beside the models of each ablation."""

from ser import log
from ser.report.model_card import write_model_cards

log.to_file(snakemake.log[0])
params = snakemake.params
write_model_cards(
    provenance=snakemake.input.provenance,
    protocol=snakemake.input.protocol,
    table=snakemake.input.table,
    cards=dict(zip(params.encoders, snakemake.input.cards, strict=True)),
    winners=dict(zip(params.tuned, snakemake.input.winners, strict=True)),
    targets=params.targets,
    paths=dict(zip(params.ablations, snakemake.output, strict=True)),
)
