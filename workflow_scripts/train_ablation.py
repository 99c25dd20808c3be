"""Train the heads of one ablation, one a seed."""

from ser import log

log.to_file(snakemake.log[0])

from ser.training import Split, fix_numerics, train_ablation  # noqa: E402 - TensorFlow speaks while it is imported

fix_numerics(snakemake.params.ablation["training"]["threads"])
train_ablation(
    ablation=snakemake.params.ablation,
    seeds=snakemake.params.seeds,
    targets=snakemake.params.targets,
    train=Split(snakemake.input.train, snakemake.input.get("train_speakers", []), snakemake.input.train_labels),
    validation=Split(
        snakemake.input.validation, snakemake.input.get("validation_speakers", []), snakemake.input.validation_labels
    ),
    folder=f"results/models/{snakemake.wildcards.ablation}",
    results=f"results/{{kind}}/{snakemake.wildcards.ablation}/seed-{{seed}}/{{split}}.parquet",
    target_speakers=snakemake.input.get("target_speakers"),
    memory_bytes=(snakemake.resources.mem_mb - 2000) * 1e6,  # TensorFlow itself takes up to 2 GB
)
