"""Write the report of a run: one HTML file."""

from pathlib import Path

from ser import log
from ser.report.page import Inputs, write_report

log.to_file(snakemake.log[0])
files, results = snakemake.input, Path(snakemake.output[0]).parent
inputs = Inputs(
    tables={
        name: files[name]
        for name in (
            *("ablation_table", "contrast_table", "speaker_table", "speaker_summary", "enrolment_curve"),
            *("label_shift", "label_shift_correlations", "utterances", "rejected", "protocol", "provenance"),
        )
    }
    | ({"group_table": files.group_table[0]} if files.group_table else {}),
    choices={Path(path).parts[-2]: path for path in files.choices},
    cards={Path(path).parts[-2]: path for path in files.cards},
    training={Path(path).parts[-2]: path for path in files.training}
    | {str(Path(path).parent.relative_to(results)): path for path in files.tuning},
    winners=dict(zip(snakemake.params.tuned, files.winners, strict=True)),
    histories=files.histories,
    labels={Path(path).stem: path for path in files.labels},
    calibrated=files.calibrated,
    vectors=files.vectors,
    results=results,
)
write_report(snakemake.output[0], inputs)
