# Model cards: what the models of each ablation are, beside them.
#
# Needs   results/provenance.json, results/protocol.json, results/ablation_table.csv, results/encoders/{encoder}/card.json,
#         of ablations that are fine-tuned results/finetuned/{ablation}/seed-{seed}/card.json
#         of ablations that are tuned results/tuning/{ablation}.json
# Makes   results/models/{ablation}/README.md


rule write_model_cards:
    """A model card for each ablation."""
    input:
        provenance="results/provenance.json",
        protocol="results/protocol.json",
        table="results/ablation_table.csv",
        cards=[encoder_file(encoder, "card.json") for encoder in DESCRIBED_ENCODERS],
        winners=list(WINNERS.values()),
    output:
        expand("results/models/{ablation}/README.md", ablation=ABLATIONS),
    log:
        "results/logs/write_model_cards.log",
    benchmark:
        "results/benchmarks/write_model_cards.tsv"
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=1000,
    params:
        *library("write_model_cards.py"),
        ablations=list(ABLATIONS),
        encoders=DESCRIBED_ENCODERS,
        tuned=list(WINNERS),
        targets=TARGETS,
    message:
        "Model cards of {params.ablations}"
    script:
        "../workflow_scripts/write_model_cards.py"
