"""Adapt an encoder to the corpus by masked prediction."""

from pathlib import Path

from ser import log

log.to_file(snakemake.log[0])

from ser.adaptation.adapt import Places, Recipe, Sources, adapt  # noqa: E402 - accelerate speaks while it is imported

params, files = snakemake.params, snakemake.input
adapt(
    Sources(
        base=params.base,
        revision=params.revision,
        shards={split: (files[f"{split}_manifests"], files[f"{split}_labels"]) for split in ("train", "validation")},
        clusters=files.clusters,
        speaker_means=files.get("speaker_means", []),
    ),
    Recipe(options=params.options, settings=params.settings, audio=params.audio, fingerprint=params.fingerprint),
    Places(
        out_dir=Path(snakemake.output.card).parent,
        checkpoint=Path(params.checkpoint),
        tensorboard=Path(params.tensorboard),
    ),
    params.device,
)
