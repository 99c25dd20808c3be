"""Adapt an encoder to the corpus by masked prediction."""

from pathlib import Path

from ser import log

log.to_file(snakemake.log[0])

from ser import adaptation  # noqa: E402 - accelerate speaks while it is imported

adaptation.launch(
    base=snakemake.params.base,
    revision=snakemake.params.revision,
    out_dir=Path(snakemake.output.card).parent,
    shards={
        split: (snakemake.input[f"{split}_manifests"], snakemake.input[f"{split}_labels"])
        for split in ("train", "validation")
    },
    clusters=snakemake.input.clusters,
    speaker_means=snakemake.input.get("speaker_means", []),
    options=snakemake.params.options,
    settings=snakemake.params.settings,
    audio=snakemake.params.audio,
    device=snakemake.params.device,
    checkpoint=snakemake.params.checkpoint,
    tensorboard=snakemake.params.tensorboard,
    fingerprint=snakemake.params.fingerprint,
)
