"""Predict one test split with the heads of one ablation."""

from ser import log

log.to_file(snakemake.log[0])

import ser.lean_keras  # noqa: E402, F401 - before what imports Keras
from ser.config.ablation import Ablation  # noqa: E402
from ser.heads.numerics import fix_numerics  # noqa: E402
from ser.heads.prediction import load_heads, predict_split  # noqa: E402 - TensorFlow speaks while it is imported

ablation = Ablation.read(snakemake.params.ablation)
fix_numerics(ablation.training["threads"])
heads = load_heads(dict(zip(snakemake.params.seeds, snakemake.input.models, strict=True)))
# Heads that were trained with an encoder of their own read its features alone.
groups = [{seed: head} for seed, head in heads.items()] if ablation.finetune else [heads]
for group in groups:
    predict_split(
        heads=group,
        ablation=ablation,
        embeddings=snakemake.input[f"seed_{next(iter(group))}" if ablation.finetune else "embeddings"],
        speakers=snakemake.input.speakers,
        targets=snakemake.params.targets,
        results=snakemake.params.predicted.replace("{split}", snakemake.wildcards.split),
    )
