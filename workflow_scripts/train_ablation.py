"""Train the heads of one ablation, one a seed."""

from ser import log

log.to_file(snakemake.log[0])

import ser.lean_keras  # noqa: E402, F401 - before what imports Keras
from ser.config.ablation import Ablation  # noqa: E402
from ser.config.tuning_grid import apply_winner  # noqa: E402
from ser.heads.numerics import fix_numerics  # noqa: E402 - TensorFlow speaks while it is imported
from ser.heads.training import train_ablation  # noqa: E402 - TensorFlow speaks while it is imported
from ser.heads.training_data import Split  # noqa: E402

ablation = Ablation.read(snakemake.params.ablation)
if winner := snakemake.input.get("winner"):
    ablation = apply_winner(ablation, winner)
fix_numerics(ablation.training["threads"])
train_ablation(
    ablation=ablation,
    seeds=snakemake.params.seeds,
    targets=snakemake.params.targets,
    train=Split(snakemake.input.train, snakemake.input.get("train_speakers", []), snakemake.input.train_labels),
    validation=Split(
        snakemake.input.validation, snakemake.input.get("validation_speakers", []), snakemake.input.validation_labels
    ),
    folder=snakemake.params.folder,
    results=snakemake.params.predicted,
    tensorboard=snakemake.params.tensorboard,
    known_speakers=snakemake.input.get("known_speakers", []),
    target_speakers=snakemake.input.get("target_speakers", []),
    memory_bytes=(snakemake.resources.mem_mb - 2000) * 1e6,  # TensorFlow itself takes up to 2 GB
)
