"""Fine-tune the encoder of one seed of an ablation, together with its head."""

import os
from pathlib import Path

from ser import log

log.to_file(snakemake.log[0])

params, files = snakemake.params, snakemake.input
if params.device == "cpu":
    os.environ["KERAS_TORCH_DEVICE"] = "cpu"

import ser.lean_torch_keras  # noqa: E402, F401 - before what imports Keras
from ser.config.ablation import Ablation  # noqa: E402
from ser.finetuning.finetune import SPLITS, Files, Places, Recipe, finetune  # noqa: E402
from ser.finetuning.speaker_table import Compared  # noqa: E402

finetune(
    Path(files.card).parent,
    {
        split: Files(
            facts=files[f"{split}_facts"],
            labels=files[f"{split}_labels"],
            speakers=files.get(f"{split}_speakers", []),
            vectors=files.get(f"{split}_vectors", []),
        )
        for split in SPLITS
    },
    tuple(files[name] for name in ("known_speakers", "target_speakers") if name in files.keys()),  # noqa: SIM118
    Recipe(
        name=snakemake.wildcards.ablation,
        ablation=Ablation.read(params.ablation),
        seed=int(snakemake.wildcards.seed),
        targets=params.targets,
        audio=params.audio,
        device=params.device,
        fingerprint=params.fingerprint,
    ),
    Places(
        encoder=Path(snakemake.output.card).parent,
        head=Path(snakemake.output.head),
        history=Path(snakemake.output.history),
        checkpoint=Path(params.checkpoint),
        tensorboard=Path(params.tensorboard),
    ),
    memory_bytes=(snakemake.resources.mem_mb - 8000) * 1e6,
    compared=Compared(files.speaker_means, params.neighbours) if params.neighbours else None,
)
