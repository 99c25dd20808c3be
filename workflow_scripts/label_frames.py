"""Label the frames of one shard with their clusters."""

from ser import log
from ser.adaptation import pseudo_labels

log.to_file(snakemake.log[0])
pseudo_labels.label_shard(
    manifest=snakemake.input.manifest,
    clusters=snakemake.input.clusters,
    encoder_card=snakemake.input.get("card"),
    path=snakemake.output[0],
    options=snakemake.params.options,
    audio=snakemake.params.audio,
    device=snakemake.params.device,
    threads=snakemake.threads,
)
