"""Audio facts and mean MFCCs of the speakers of one shard."""

from ser import log
from ser.audio.facts import measure_shard

log.to_file(snakemake.log[0])
measure_shard(
    manifest=snakemake.input.manifest,
    facts_path=snakemake.output.facts,
    speakers_path=snakemake.output.speakers,
    **snakemake.params.audio,
)
