# The report: everything that a run found, as one HTML file that opens without a network.
#
# Needs   the tables, results/metadata/…, results/provenance.json and results/protocol.json; of each ablation choices of k and
#         alpha, training histories, calibrated predictions and the first seed's speaker vectors; encoders' cards and
#         training logs; of ablations that are tuned results/tuning/{ablation}.json
# Makes   results/report.html
#
# Benchmarks are read as far as they are there, and are no inputs: a lost one is no reason to run its job again.

REPORTED_SPLITS = ["train", *EVALUATED_SPLITS]


rule report:
    """The run on one page, report.html."""
    input:
        ablation_table="results/ablation_table.csv",
        contrast_table="results/contrast_table.csv",
        speaker_table="results/speaker_table.csv",
        speaker_summary="results/speaker_summary.csv",
        enrolment_curve="results/enrolment_curve.csv",
        group_table=GROUP_TABLES,
        label_shift="results/label_shift.csv",
        label_shift_correlations="results/label_shift_correlations.csv",
        utterances="results/metadata/utterances.parquet",
        rejected="results/metadata/rejected.csv",
        protocol="results/protocol.json",
        provenance="results/provenance.json",
        choices=expand(
            "results/calibration/{ablation}/choices.json", ablation=ABLATIONS
        ),
        cards=expand("results/encoders/{encoder}/card.json", encoder=EVALUATED_ENCODERS),
        training=expand(
            "results/encoders/{encoder}/training.csv",
            encoder=sorted(ADAPTED_ENCODERS.intersection(EVALUATED_ENCODERS)),
        ),
        tuning=expand("results/{encoder}/training.csv", encoder=TUNED_ENCODERS),
        winners=list(WINNERS.values()),
        histories=expand(
            "results/models/{ablation}/seed-{seed}/history.csv",
            ablation=ABLATIONS,
            seed=SEEDS,
        ),
        labels=expand("results/labels/{split}.parquet", split=REPORTED_SPLITS),
        calibrated=expand(
            CALIBRATED, ablation=ABLATIONS, seed=SEEDS, split=EVALUATED_SPLITS
        ),
        vectors=expand(
            "results/speaker_vectors/{ablation}/seed-{seed}/{split}.parquet",
            ablation=ABLATIONS,
            seed=SEEDS[0],
            split=REPORTED_SPLITS,
        ),
    output:
        report(
            "results/report.html",
            caption="report/report.rst",
            category="Scores",
        ),
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../envs/evaluation.yaml"
    resources:
        mem_mb=3000,
    params:
        *library("write_report.py"),
        *sources.digest_files(
            ROOT / "workflow_scripts" / "ser" / "report" / name
            for name in ("page.css", "page.html", "page.js", "page.licences.txt")
        ),
        tuned=list(WINNERS),
    message:
        "Report of the run"
    script:
        "../workflow_scripts/write_report.py"
