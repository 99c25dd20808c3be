"""Scores of recordings without labels, by the heads and the calibration of one ablation."""

from ser import log
from ser.config.calibration_methods import Method, read_methods
from ser.evaluation.calibration_inputs import name_files
from ser.evaluation.recording_scores import Files, Scoring, score_recordings

log.to_file(snakemake.log[0])
params, files = snakemake.params, snakemake.input
settings, options = params.settings, params.calibration
methods = {method.name: method for method in read_methods(options["methods"])}
score_recordings(
    Scoring(
        name=snakemake.wildcards.scored,
        ablation=settings["ablation"],
        method=methods.get(settings["calibration"], Method("none")),
        coverage=settings["coverage"],
        label_range=params.label_range,
        min_utterances=params.min_utterances,
        min_reference_utterances=options["min_reference_utterances"],
        seeds=params.seeds,
        targets=params.targets,
    ),
    Files(
        train_labels=files.train_labels,
        validation_labels=files.validation_labels,
        choices=files.choices,
        train=name_files(files, "train_"),
        split=name_files(files),
        calibrated=files.calibrated,
        validation=files.validation,
        facts=files.facts,
    ),
    paths=dict(snakemake.output.items()),
)
