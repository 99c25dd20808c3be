"""Embed the utterances of one shard."""

from pathlib import Path

from ser import log
from ser.encoders import embed

log.to_file(snakemake.log[0])
embed.embed_shard(
    manifest=snakemake.input.manifest,
    encoder_dir=Path(snakemake.input.card).parent,
    pooled_path=snakemake.output.pooled,
    frames_path=snakemake.output.get("frames"),
    frames_layer=snakemake.params.frames_layer,
    dtype=snakemake.params.dtype,
    device=snakemake.params.device,
    precision=snakemake.params.precision,
    threads=snakemake.threads,
    audio=snakemake.params.audio,
    reuse_dir=snakemake.params.reuse_dir,
    fingerprint=snakemake.params.fingerprint,
    vectors_path=snakemake.input.get("vectors"),
    output=snakemake.params.output,
)
