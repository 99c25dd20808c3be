"""The tables for people: audio facts joined with labels."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ser.audio.facts import FACTS
from ser.corpus.metadata import describe_corpus
from ser.files import DataError
from ser.formats.parquet import write_parquet


def write_facts(folder: Path, split: str, shard: int, ids: list[str], rejected: tuple[str, ...] = ()) -> str:
    rows = [
        {
            "utterance_id": i,
            "speaker_id": f"s, {i[0]}",
            "path": f"audio/{i}",
            "sha256": "0",
            "status": "ok",
            "reason": "",
        }
        | {"duration_s": 1.5, "sample_rate": 16_000, "channels": 1, "peak": 0.5, "rms_db": -20.0}
        for i in ids
    ]
    for row in rows:
        if row["utterance_id"] in rejected:
            row |= {"status": "rejected", "reason": 'silent: "below" -80 dB'}
            row |= dict.fromkeys(("duration_s", "sample_rate", "channels", "peak", "rms_db"))
    path = folder / "audio" / split / f"shard-{shard:03}.parquet"
    write_parquet(path, pa.Table.from_pylist(rows, FACTS))
    return str(path)


def write_labels(folder: Path, split: str, labels: dict[str, tuple]) -> str:
    path = folder / "labels" / f"{split}.parquet"
    columns = {
        "utterance_id": pa.array(labels, pa.string()),
        "speaker_id": pa.array([f"s, {i[0]}" for i in labels], pa.string()),
        "valence": pa.array([v for v, _ in labels.values()], pa.float64()),
        "arousal": pa.array([a for _, a in labels.values()], pa.float64()),
    }
    write_parquet(path, pa.table(columns))
    return str(path)


def describe(folder: Path, facts: list[str], labels: list[str], corpus: str = "corpus") -> tuple[pa.Table, list[dict]]:
    describe_corpus(facts, labels, str(folder / "utterances.parquet"), str(folder / "rejected.csv"), corpus)
    with open(folder / "rejected.csv", newline="", encoding="utf-8") as file:
        return pq.read_table(folder / "utterances.parquet"), list(csv.DictReader(file))


def test_facts_and_labels_are_joined_by_utterance(tmp_path):
    facts = [
        write_facts(tmp_path, "train", 1, ["b", "d, é"], rejected=("d, é",)),
        write_facts(tmp_path, "train", 0, ["a", "c"]),
        write_facts(tmp_path, "test3", 0, ["z"]),
    ]
    labels = [
        write_labels(tmp_path, "train", {"d, é": (4.0, 4.5), "c": (3.0, 3.5), "b": (2.0, 2.5), "a": (1.0, 1.5)}),
        write_labels(tmp_path, "test3", {"z": (None, None)}),  # withheld
    ]
    table, rejected = describe(tmp_path, facts, labels)
    assert table.column_names == [*FACTS.names, "split", "valence", "arousal"]
    rows = [(r["split"], r["utterance_id"], r["valence"], r["arousal"], r["status"]) for r in table.to_pylist()]
    assert rows == [
        ("test3", "z", None, None, "ok"),
        ("train", "a", 1.0, 1.5, "ok"),
        ("train", "b", 2.0, 2.5, "ok"),
        ("train", "c", 3.0, 3.5, "ok"),
        ("train", "d, é", 4.0, 4.5, "rejected"),
    ]
    assert rejected == [
        {
            "utterance_id": "d, é",
            "speaker_id": "s, d",
            "split": "train",
            "path": "audio/d, é",
            "reason": 'silent: "below" -80 dB',
        }
    ]


def test_without_rejected_audio_the_list_is_its_header(tmp_path):
    facts, labels = write_facts(tmp_path, "train", 0, ["a"]), write_labels(tmp_path, "train", {"a": (1, 2)})
    assert describe(tmp_path, [facts], [labels])[1] == []
    assert (tmp_path / "rejected.csv").read_text() == "utterance_id,speaker_id,split,path,reason\n"


def test_an_empty_shard_is_no_problem(tmp_path):
    facts = [write_facts(tmp_path, "train", 0, []), write_facts(tmp_path, "train", 1, ["a"])]
    table, _ = describe(tmp_path, facts, [write_labels(tmp_path, "train", {"a": (1, 2)})])
    assert table["utterance_id"].to_pylist() == ["a"]


def test_audio_without_labels_is_an_error(tmp_path):
    facts, labels = write_facts(tmp_path, "train", 0, ["a", "b"]), write_labels(tmp_path, "train", {"a": (1, 2)})
    with pytest.raises(DataError, match=r"utterance b of .*labels/train.parquet"):
        describe(tmp_path, [facts], [labels])
    assert not (tmp_path / "utterances.parquet").exists()


def test_a_damaged_shard_is_named(tmp_path):
    facts, labels = write_facts(tmp_path, "train", 0, ["a"]), write_labels(tmp_path, "train", {"a": (1, 2)})
    whole = Path(facts).read_bytes()
    Path(facts).write_bytes(whole[:40] + bytes([whole[40] ^ 0xFF]) + whole[41:])
    with pytest.raises(DataError, match="shard-000.parquet: is damaged"):
        describe(tmp_path, [facts], [labels])


def test_no_absolute_path_is_passed_on(tmp_path):
    """It would tell the names of users and of projects."""
    facts = [write_facts(tmp_path, "train", 0, ["a", "b"], rejected=("b",))]
    labels = [write_labels(tmp_path, "train", {"a": (1.0, 1.5), "b": (1.0, 1.5)})]
    for path in facts:
        table = pq.read_table(path, partitioning=None)
        paths = pa.array([f"/home/someone/secret/{each}" for each in table["path"].to_pylist()])
        write_parquet(path, table.set_column(table.column_names.index("path"), "path", paths))
    table, rejected = describe(tmp_path, facts, labels, "/home/someone/secret/")
    assert table["path"].to_pylist() == ["audio/a", "audio/b"] and rejected[0]["path"] == "audio/b"
