"""What `explain` and `compare` read beside the evaluation of `made_results`: an index, features, models, provenance."""

import hashlib

import pyarrow as pa
from made_results import BOOTSTRAP, DRAWS, POLICY, MadeResults

from ser.audio.facts import FACTS
from ser.config.calibration_methods import Method
from ser.files import sha256, write_json, write_text
from ser.formats.csv_files import format_rows
from ser.formats.manifest import COLUMNS
from ser.formats.parquet import read_parquet, write_parquet


def add_provenance(made: MadeResults) -> None:
    """Complete a results folder. The first utterance of each split was set aside after it was predicted: made up."""
    for split in made.splits:
        labels = read_parquet(made.labels(split))
        ids, speakers = labels["utterance_id"].to_pylist(), labels["speaker_id"].to_pylist()
        rows = [
            (u, f"audio/{u}", s, hashlib.sha256(u.encode()).hexdigest()) for u, s in zip(ids, speakers, strict=True)
        ]
        write_text(made.root / f"manifests/{split}/shard-000.csv", format_rows(COLUMNS, rows))
        values = [labels[target].to_pylist() for target in made.targets]
        text = format_rows(["utterance_id", "speaker_id", *made.targets], zip(ids, speakers, *values, strict=True))
        write_text(made.root / f"manifests/{split}/labels.csv", text)
        facts = [
            dict(zip(COLUMNS, row, strict=True)) | {"duration_s": 2.0, "status": "ok", "reason": ""} for row in rows
        ]
        facts[0] |= {"duration_s": None, "status": "rejected", "reason": "silent"}
        write_parquet(made.root / f"audio/{split}/shard-000.parquet", pa.Table.from_pylist(facts, FACTS))
        write_text(made.root / f"embeddings/demo/{split}/shard-000.tfrecord", f"embeddings of {split}")
    write_json(made.root / "manifests/index.json", {"shards": {s: {"000": ""} for s in made.splits}, "left_out": {}})
    write_text(made.root / "encoders/demo/model.safetensors", "weights")
    write_json(made.root / "encoders/demo/card.json", {"weights": "random-init", "weights_sha256": "1" * 64})
    for ablation in made.ablations:
        for seed in made.seeds:
            write_text(made.root / f"models/{ablation}/seed-{seed}/model.keras", f"{ablation} {seed}")
    write_json(made.root / "provenance.json", describe_made(made))


def describe_made(made: MadeResults) -> dict:
    """A provenance of these results."""
    return {
        "config": {
            "corpus": {"targets": made.targets},
            "audio": {"min_seconds": 0.1},
            "encoders": {"demo": {"dtype": "float16", "threads": 2, "adaptation": "none"}},
            "baseline": "baseline",
            "seeds": made.seeds,
            "calibration": {
                "methods": [vars(Method(**method)) for method in made.methods],
                "min_reference_utterances": 1,
                "enrolment_draws": DRAWS,
                "random_draws": 10,
                "random_seed": 1,
            },
            "evaluation": POLICY | {f"bootstrap_{name}": value for name, value in BOOTSTRAP.items()},
        },
        "ablations": {name: ablation.to_dict() for name, ablation in made.ablations.items()},
        "code": {"score.py": {"workflow_scripts/score.py": "0" * 64}},
        "packages": {"numpy": "2.0"},
        "python": "3.11.0",
        "git": None,
        "table_sha256": sha256(made.root / "ablation_table.csv"),
    }
