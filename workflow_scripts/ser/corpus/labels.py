"""Labels of a split as Parquet, from the slice of the sheet that the index cut out."""

import pyarrow as pa
import pyarrow.csv

from ser.formats.parquet import write_parquet


def build_labels(source: str, path: str, targets: list[str]) -> None:
    """Write `utterance_id, speaker_id` and a float64 column a target; a withheld target is a column of nulls."""
    types = {"utterance_id": pa.string(), "speaker_id": pa.string()} | dict.fromkeys(targets, pa.float64())
    options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False, null_values=[""])
    write_parquet(path, pyarrow.csv.read_csv(source, convert_options=options))
