"""Predictions and labels as a database in audformat (https://audeering.github.io/audformat/), for other tools."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ser.corpus.segments import split_part
from ser.files import write_text
from ser.formats.csv_files import format_rows
from ser.formats.parquet import read_parquet
from ser.formats.utterances import find_runs

_SPLIT_TYPES = {"train": "train", "validation": "dev"}  # audformat's names; all others are test


def export_predictions(
    labels: dict[str, str],
    calibrated: list[str],
    calibration: str,
    targets: list[str],
    label_range: list[float],
    header: str | Path,
    usage: str = "other",
) -> None:
    """Write the header (JSON, which is YAML too), and beside it a CSV table of files for each of these:

    `files` with the speakers; `labels.{split}`; `predictions.{split}.seed-{seed}` by one calibration. A file's path is
    as in the label sheet, inside the folder of the audio. A table with parts of files is a segmented one.

    Args:
        labels: the labels file of each split
        calibrated: calibrated predictions, `.../{ablation}/seed-{seed}/{split}.parquet`
        usage: what the source of the labels may be used for, in audformat's words; `other` where it does not say
    """
    header = Path(header)
    runs = sorted(find_runs(calibrated).items())
    schemes = {target: {"dtype": "float", "minimum": label_range[0], "maximum": label_range[1]} for target in targets}
    # Predictions may leave the range of the labels, which audformat would refuse.
    schemes |= {"speaker": {"dtype": "str"}, "prediction": {"dtype": "float"}}
    tables, speakers = {}, []
    for split, path in labels.items():
        table = read_parquet(path)
        speakers.append(table.select(["utterance_id", "speaker_id"]))
        columns = {target: {"scheme_id": target} for target in targets}
        kind = _write(header, f"labels.{split}", table, targets)
        tables[f"labels.{split}"] = {"type": kind, "split_id": split, "columns": columns}
    for (_, seed, split), path in runs:
        table = read_parquet(path)
        table = table.filter(pc.equal(table["calibration"].cast("string"), calibration))
        columns = {target: {"scheme_id": "prediction"} for target in targets}
        name = f"predictions.{split}.seed-{seed}"
        tables[name] = {"type": _write(header, name, table, targets), "split_id": split, "columns": columns}
    kind = _write(header, "files", pa.concat_tables(speakers).rename_columns(["utterance_id", "speaker"]), ["speaker"])
    tables = {"files": {"type": kind, "columns": {"speaker": {"scheme_id": "speaker"}}}} | tables
    ablation = runs[0][0][0]
    database = {
        "name": f"{ablation}-{calibration}",
        "source": "internal",
        "usage": usage,
        "description": f"Labels, and predictions of ablation {ablation} with calibration {calibration}",
        "schemes": schemes,
        "splits": {split: {"type": _SPLIT_TYPES.get(split, "test")} for split in labels},
        "tables": tables,
    }
    write_text(header, json.dumps(database, ensure_ascii=False, indent=1) + "\n")  # no checksum: tabs are not YAML


def _write(header: Path, name: str, table: pa.Table, columns: list[str]) -> str:
    """Write a table of the database, sorted by file, and say of which type it is."""
    table = table.sort_by("utterance_id")
    parts = [split_part(utterance) for utterance in table["utterance_id"].to_pylist()]
    segmented = any((start, end) != (0, None) for _, start, end in parts)
    index = {"file": [file for file, _, _ in parts]}
    if segmented:
        index |= {"start": [_format_time(start) for _, start, _ in parts]}
        index |= {"end": ["" if end is None else _format_time(end) for _, _, end in parts]}
    values = [*index.values(), *(table[column].to_pylist() for column in columns)]
    text = format_rows([*index, *columns], zip(*values, strict=True))
    write_text(header.with_name(f"{header.stem}.{name}.csv"), text)
    return "segmented" if segmented else "filewise"


def _format_time(seconds: float) -> str:
    """As pandas writes a time."""
    minutes, seconds = divmod(round(seconds, 9), 60)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    return f"{days} days {hours:02}:{minutes:02}:{seconds:012.9f}"
