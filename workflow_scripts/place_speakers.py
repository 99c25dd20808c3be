"""Give the speakers of one shard their vectors for a personalised encoder."""

from ser import log
from ser.adaptation import speaker_embeddings

log.to_file(snakemake.log[0])
speaker_embeddings.write_shard(
    manifest=snakemake.input.manifest,
    head=snakemake.input.head,
    known_means=snakemake.input.get("known_means", []),
    embeddings=snakemake.input.get("embeddings"),
    k=snakemake.params.neighbours,
    path=snakemake.output[0],
)
