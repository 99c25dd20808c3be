"""Tables of all utterances, and of those set aside, for people: nothing in the workflow reads them."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ser.formats.csv_files import write_csv
from ser.formats.parquet import read_parquet, read_schema
from ser.formats.parquet_seal import sealed_writer
from ser.formats.utterances import find_rows

REJECTED = ("utterance_id", "speaker_id", "split", "path", "reason")


def describe_corpus(
    facts_paths: Iterable[str], labels_paths: Iterable[str], utterances_path: str, rejected_path: str, folder: str
) -> None:
    """Join audio facts (`{split}/shard-*.parquet`) with labels (`{split}.parquet`) by utterance, a split at a time.

    `utterances_path` (Parquet) gets all columns of the facts, `split` and the targets, sorted by split and id;
    `rejected_path` (CSV) the REJECTED columns of the utterances set aside, its header alone if there are none. Paths
    are relative to the corpus' `folder` where that is absolute.
    """
    shards = defaultdict(list)
    for path in facts_paths:
        shards[Path(path).parent.name].append(path)
    labels_by_split = {Path(path).name.removesuffix(".parquet"): path for path in labels_paths}
    targets = read_schema(next(iter(labels_by_split.values()))).names[2:]
    schema = pa.unify_schemas([read_schema(path) for paths in shards.values() for path in paths])  # some have parts
    facts_schema, schema = schema, schema.append(pa.field("split", pa.string()))
    for target in targets:
        schema = schema.append(pa.field(target, pa.float64()))
    rejected = []
    with sealed_writer(utterances_path, schema) as writer:
        for split, paths in sorted(shards.items()):
            found = pa.concat_tables([facts_schema.empty_table(), *map(read_parquet, paths)], promote_options="default")
            facts = found.sort_by("utterance_id")
            labels = read_parquet(labels_by_split[split])
            rows = find_rows(facts["utterance_id"], labels["utterance_id"].combine_chunks(), labels_by_split[split])
            splits = pa.array([split] * len(facts), pa.string())
            place = facts.column_names.index("path")
            facts = facts.set_column(place, "path", pa.array(_shorten(facts["path"].to_pylist(), folder), pa.string()))
            columns = [*facts.columns, splits, *labels.select(targets).take(pa.array(rows)).columns]
            table = pa.Table.from_arrays(columns, names=schema.names).cast(schema)
            writer.write_table(table)
            rejected += table.filter(pc.equal(table["status"], "rejected")).select(REJECTED).to_pylist()
    write_csv(rejected_path, list(REJECTED), rejected)


def _shorten(paths: list[str], folder: str) -> list[str]:
    start = f"{folder.rstrip('/')}/"
    return [path.removeprefix(start) for path in paths] if os.path.isabs(folder) else paths
