"""Fit the clusters that pseudo-labels are made of."""

from ser import log
from ser.adaptation import pseudo_labels

log.to_file(snakemake.log[0])
pseudo_labels.make_clusters(
    manifest_paths=snakemake.input.manifests,
    encoder_card=snakemake.input.get("card"),
    given=snakemake.input.get("centroids"),
    path=snakemake.output[0],
    options=snakemake.params.options,
    audio=snakemake.params.audio,
    device=snakemake.params.device,
    threads=snakemake.threads,
)
