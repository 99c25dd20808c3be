# Provenance: what the tables were made with, as far as no other result says it.
#
# Needs   results/ablation_table.csv, results/speaker_table.csv, results/speaker_summary.csv, results/contrast_table.csv,
#         results/enrolment_curve.csv; with corpus.groups results/group_table.csv
# Makes   results/provenance.json: the config with its defaults, digests of the code and of the tables, package versions,
#         the git commit
#
# It is written when the table is, or when the config changes; another commit alone runs nothing.

import json

# Scripts of which the tables know nothing: an edit of them is no reason for another figure.
BESIDE_THE_TABLE = {
    "describe_corpus.py",
    "export_predictions.py",
    "prune.py",
    "record_provenance.py",
    "score_groups.py",
    "study_label_shift.py",
    "write_model_cards.py",
    "write_report.py",
}


def scripts_of_the_table(
    wildcards,
):
    """The scripts of all rules but those beside the table."""
    scripts = {Path(rule.script).name for rule in workflow.rules if rule.script}
    own = {path.name for path in (ROOT / "workflow_scripts").glob("*.py")}
    return sorted((scripts & own) - BESIDE_THE_TABLE)


rule record_provenance:
    """Record config, code, versions and commit of the tables."""
    input:
        table="results/ablation_table.csv",
        beside=[
            "results/speaker_table.csv",
            "results/speaker_summary.csv",
            "results/contrast_table.csv",
            "results/enrolment_curve.csv",
            *GROUP_TABLES,
        ],
    output:
        "results/provenance.json",
    log:
        "results/logs/record_provenance.log",
    benchmark:
        "results/benchmarks/record_provenance.tsv"
    conda:
        "../envs/audio.yaml"
    resources:
        mem_mb=1000,
    params:
        *library("record_provenance.py"),
        config=json.dumps(config, sort_keys=True),  # keys in another order are no change
        ablations={n: ablation.to_dict() for n, ablation in ABLATIONS.items()},
        scripts=scripts_of_the_table,
    message:
        "Config, code, versions and commit of the tables"
    script:
        "../workflow_scripts/record_provenance.py"
