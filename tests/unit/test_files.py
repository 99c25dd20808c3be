"""Files that were damaged after they were written: each is refused by name, or holds what was written."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ser.files import DataError, read_json, write_json
from ser.formats.parquet import read_parquet, write_parquet
from ser.formats.tensors import read_tensors, write_tensors

SPEAKERS = {"speaker ä": {"mfcc": [-1.5, 0.1 + 0.2, 1e-9], "n_utterances": 3, "seconds": 12.0}}
TABLE = pa.table(
    {
        "utterance_id": ["a.wav", "b.wav"],
        "valence": pa.array([1.5, 2.25], pa.float32()),
        "vector": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32())),
    }
)
TENSORS = {"centroids": np.arange(6, dtype=np.float32).reshape(2, 3), "codes": np.ones(2, np.float32)}


def read_head(path):
    tensors, metadata = read_tensors(path)
    return [(tensors[name].dtype, tensors[name].tolist()) for name in TENSORS], metadata


KINDS = {
    "speakers.json": (lambda path: write_json(path, SPEAKERS), read_json),
    "labels.parquet": (lambda path: write_parquet(path, TABLE), lambda path: read_parquet(path).to_pydict()),
    "head.safetensors": (lambda path: write_tensors(path, TENSORS, {"speakers": "[]"}), read_head),
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items(), ids=KINDS)
def test_damage_is_named_or_harmless(tmp_path, name, kind):
    """A flipped bit in each byte and a cut at each: no other data is ever read."""
    write, read = kind
    path = tmp_path / name
    write(path)
    whole, written = path.read_bytes(), read(path)
    assert written == read(path)
    damaged = [whole[:cut] for cut in range(0, len(whole), 7)]
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert read(path) == written
        except DataError as error:
            assert str(error).startswith(f"{path}: is ") and "delete it and run again" in str(error)
            refused += 1
    assert refused > len(damaged) / 2


def test_json_stays_json(tmp_path):
    """The checksum is white space to every reader; a file without one, or made anew by hand, is read as it is."""
    path = tmp_path / "speakers.json"
    write_json(path, SPEAKERS)
    assert json.loads(path.read_text(encoding="utf-8")) == SPEAKERS
    path.write_text(json.dumps({"by": "hand"}, indent=1) + "\n")
    assert read_json(path) == {"by": "hand"}


def test_parquet_of_other_programs_is_read(tmp_path):
    """Types that Arrow's copy of the schema has and Parquet has not."""
    table = pa.table(
        {
            "file": pa.array(["a", "b"], pa.large_string()),
            "speaker": pa.array(["x", "y"]).dictionary_encode(),
            "start": pa.array([0, 1], pa.duration("ns")),
            "time": pa.array([0, 1000], pa.timestamp("ns", "UTC")),
            "valence": pa.array([1.5, 2.5], pa.float16()),
        }
    )
    for version in ("1.0", "2.6"):
        pq.write_table(table, tmp_path / "table.parquet", version=version)
        assert read_parquet(tmp_path / "table.parquet").column_names == table.column_names


def test_tensors_are_the_same_bytes_each_time(tmp_path):
    paths = [tmp_path / f"{number}.safetensors" for number in range(5)]
    for path in paths:
        write_tensors(path, TENSORS, {"speakers": "[]"})
    assert len({path.read_bytes() for path in paths}) == 1
