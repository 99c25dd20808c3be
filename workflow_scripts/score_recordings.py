"""Scores of recordings without labels, by the heads and the calibration of one ablation."""

from ser import log
from ser.config.calibration_methods import Method, read_methods
from ser.evaluation.calibration_inputs import name_files
from ser.evaluation.recording_scores import score_recordings

log.to_file(snakemake.log[0])
settings, options = snakemake.params.settings, snakemake.params.calibration
methods = {method.name: method for method in read_methods(options["methods"])}
score_recordings(
    name=snakemake.wildcards.scored,
    ablation=settings["ablation"],
    method=methods.get(settings["calibration"], Method("none")),
    coverage=settings["coverage"],
    label_range=snakemake.params.label_range,
    min_utterances=snakemake.params.min_utterances,
    min_reference_utterances=options["min_reference_utterances"],
    seeds=snakemake.params.seeds,
    targets=snakemake.params.targets,
    train_labels=snakemake.input.train_labels,
    validation_labels=snakemake.input.validation_labels,
    choices=snakemake.input.choices,
    train=name_files(snakemake.input, "train_"),
    split=name_files(snakemake.input),
    calibrated=snakemake.input.calibrated,
    validation=snakemake.input.validation,
    facts=snakemake.input.facts,
    scores_path=snakemake.output.scores,
    speakers_path=snakemake.output.speakers,
    rejected_path=snakemake.output.rejected,
)
