"""Files that were damaged after they were written: each is refused by name, or holds what was written."""

import json
import os

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


def test_no_bit_of_a_parquet_file_makes_another_table(tmp_path):
    """Pages had checksums, but the footer can point at other pages, or have fewer rows: each bit, in all columns."""
    path = tmp_path / "predictions.parquet"
    speakers = [f"speaker {number // 4}" for number in range(24)]
    columns = {"utterance_id": [f"{number}.wav" for number in range(24)], "speaker_id": speakers}
    table = pa.table(columns | {name: pa.array(range(24), pa.float32()) for name in ("valence",)})
    write_parquet(path, table, row_group_size=12)
    whole = path.read_bytes()
    end = len(whole) - 8
    start = end - int.from_bytes(whole[end : end + 4], "little") - 16  # the footer, and the seal before it
    refused = 0
    for place in range(start, len(whole)):
        for bit in range(8):
            with open(path, "r+b") as file:
                os.pwrite(file.fileno(), bytes([whole[place] ^ 1 << bit]), place)
            try:
                assert read_parquet(path).equals(table)
            except DataError as error:
                assert str(error).startswith(f"{path}: is damaged")
                refused += 1
        with open(path, "r+b") as file:
            os.pwrite(file.fileno(), whole[place : place + 1], place)
    assert refused > 0.95 * 8 * (len(whole) - start)


def test_other_programs_read_what_is_sealed(tmp_path):
    """What stands between the pages and the footer is nothing to readers of Parquet."""
    path = tmp_path / "table.parquet"
    write_parquet(path, TABLE)
    assert pq.read_table(path, partitioning=None).equals(TABLE)
    assert pq.ParquetFile(path).metadata.num_rows == len(TABLE)


def test_a_column_that_is_not_there_is_named(tmp_path):
    write_parquet(tmp_path / "table.parquet", TABLE)
    with pytest.raises(DataError, match="table.parquet: has no column 'arousal'; it has utterance_id"):
        read_parquet(tmp_path / "table.parquet", ["utterance_id", "arousal"])


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


def test_a_checksum_by_another_name_is_missed(tmp_path):
    """One bit in the header, and nothing would be checked."""
    path = tmp_path / "head.safetensors"
    write_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes().replace(b'"crc32"', b'"crc22"'))
    with pytest.raises(DataError, match="head.safetensors: is damaged.*its checksum has another name"):
        read_tensors(path)


def test_tensors_are_the_same_bytes_each_time(tmp_path):
    paths = [tmp_path / f"{number}.safetensors" for number in range(5)]
    for path in paths:
        write_tensors(path, TENSORS, {"speakers": "[]"})
    assert len({path.read_bytes() for path in paths}) == 1
