"""Vectors of the utterances of one shard."""

from pathlib import Path

from ser import log
from ser.speakers.measure import measure_shard

log.to_file(snakemake.log[0])
card = snakemake.input.get("card")
measure_shard(
    manifest=snakemake.input.manifest,
    path=snakemake.output[0],
    kind=snakemake.params.kind,
    folder=Path(card).parent if card else None,
    device=snakemake.params.device,
    threads=snakemake.threads,
    audio=snakemake.params.audio,
    reuse_dir=snakemake.params.reuse_dir,
    fingerprint=snakemake.params.fingerprint,
)
