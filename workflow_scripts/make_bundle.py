"""A trained ablation as one file, which scores recordings without the workflow."""

from pathlib import Path

import ser.lean_keras  # noqa: F401 - before TensorFlow
from ser import log
from ser.bundles.bundle import Bundling, Sources, make_bundle
from ser.config.ablation import Ablation
from ser.config.calibration_methods import Method
from ser.evaluation.calibration_inputs import name_files

log.to_file(snakemake.log[0])
params, files = snakemake.params, snakemake.input
settings = params.settings


def find_folders(cards) -> list[str]:
    """The folders of encoders, given by their cards."""
    return [str(Path(card).parent) for card in ([cards] if isinstance(cards, str) else cards)]


encoders = find_folders(files.cards)
make_bundle(
    Bundling(
        name=snakemake.wildcards.bundle,
        ablation_name=settings["ablation"],
        ablation=Ablation.read(settings["settings"]),
        encoder=settings["encoder"],
        methods=[Method(**method) for method in settings["methods"]],
        seeds=settings["seeds"],
        all_seeds=params.all_seeds,
        targets=params.targets,
        label_range=params.label_range,
        coverage=settings["coverage"],
        min_utterances=settings["min_utterances"],
        min_reference_utterances=settings["min_reference_utterances"],
        audio=params.audio,
        placed=settings["placed"],
        placing_dtype=settings["placing_dtype"],
        notes={key: settings[key] for key in ("labels", "licence")},
        code=[part for part in params if isinstance(part, str)],
    ),
    Sources(
        heads=files.heads,
        encoders=encoders if len(encoders) > 1 else encoders * len(settings["seeds"]),
        compared=next(iter(find_folders(files.compared)), None),
        placing=next(iter(find_folders(files.placing)), None),
        vectors=files.get("vectors"),
        means=list(files.get("means", [])),
        train_labels=files.train_labels,
        validation_labels=files.validation_labels,
        choices=files.choices,
        train=name_files(files, "train_"),
        validation=files.validation,
        facts=files.facts,
        speakers=files.speakers,
    ),
    path=snakemake.output.bundle,
    speakers_path=snakemake.output.speakers,
)
