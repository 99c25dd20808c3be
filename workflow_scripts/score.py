"""Score every ablation and calibration on every split: the tables."""

from ser import log
from ser.config.ablation import Ablation
from ser.config.calibration_methods import read_methods
from ser.encoders.past import find_hearing
from ser.evaluation.tables import Design, score_runs
from ser.statistics.moments import Policy

log.to_file(snakemake.log[0])
params = snakemake.params
ablations = {name: Ablation.read(values) for name, values in params.ablations.items()}
hearing = find_hearing(
    encoders={name: ablation.encoder for name, ablation in ablations.items()},
    heard=dict(zip(params.encoders, snakemake.input.heard, strict=True)),
    manifests=snakemake.input.test_manifests,
)
score_runs(
    Design(
        ablations=ablations,
        hearing=[*params.personalised, *hearing],
        methods=read_methods(params.methods),
        targets=params.targets,
        baseline=params.baseline,
        studied=params.studied,
        primary=params.primary,
        policy=Policy(**params.policy),
        trained_on=params.trained_on,
    ),
    labels=dict(zip(params.splits, snakemake.input.labels, strict=True)),
    train_labels=snakemake.input.train_labels,
    calibrated=snakemake.input.calibrated,
    choices=dict(zip(params.ablations, snakemake.input.choices, strict=True)),
    cards=dict(zip([*params.encoders, *params.tuned], snakemake.input.cards, strict=True)),
    paths=dict(snakemake.output.items()),
)
