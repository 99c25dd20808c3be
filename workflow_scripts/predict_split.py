"""Predict one test split with the heads of one ablation."""

from ser import log

log.to_file(snakemake.log[0])

import ser.lean_keras  # noqa: E402, F401 - before what imports Keras
from ser.config.ablation import Ablation  # noqa: E402
from ser.heads.numerics import fix_numerics  # noqa: E402
from ser.heads.prediction import load_heads, predict_split  # noqa: E402 - TensorFlow speaks while it is imported

ablation = Ablation.read(snakemake.params.ablation)
fix_numerics(ablation.training["threads"])
predict_split(
    heads=load_heads(dict(zip(snakemake.params.seeds, snakemake.input.models, strict=True))),
    ablation=ablation,
    embeddings=snakemake.input.embeddings,
    speakers=snakemake.input.speakers,
    targets=snakemake.params.targets,
    results=snakemake.params.predicted.replace("{split}", snakemake.wildcards.split),
)
