"""Databases with a table for each dimension, and with ids as other programs leave them."""

import audformat
import pytest
from test_audformat import EXPECTED, SPEAKER_OF, list_rows, make_database, save

from ser.corpus.sheet import read_corpus
from ser.files import DataError


def split_tables(database, gold=False):
    """Make of each table one for each dimension, as `arousal.train`; with `gold` another one of arousal."""
    for name in [name for name in database.tables if name.startswith("emotion")]:
        old = database[name]
        for target, part in (("valence", "valence"), ("arousal", "arousal"), *([("arousal", "gold")] if gold else [])):
            table = database[name.replace("emotion", part)] = audformat.Table(old.index)
            table[target] = audformat.Column(scheme_id=target)
            table[target].set([7.0] * len(old) if part == "gold" else old[target].get())
        del database.tables[name]
    return database


@pytest.mark.parametrize("storage_format", ["csv", "parquet"])
@pytest.mark.parametrize(
    "tables",
    [
        "arousal",
        ["arousal", "valence"],
        {"train": "arousal.train", "validation": "valence.dev", "test": ["arousal.test", "valence.test"]},
    ],
    ids=["the others are found", "a list", "by split"],
)
def test_a_table_a_dimension(tmp_path, storage_format, tables):
    settings = save(split_tables(make_database()), tmp_path, storage_format, tables=tables)
    assert list_rows(settings) == sorted(EXPECTED)


def test_tables_that_differ_are_named_unless_one_is_listed(tmp_path):
    database = split_tables(make_database(), gold=True)
    with pytest.raises(DataError, match=r"tables 'arousal' and 'gold' differ in 'arousal' of 'wav/.*list the one"):
        read_corpus(save(database, tmp_path, tables="valence"))
    corpus = read_corpus(save(database, tmp_path, tables=["valence", "gold"]))
    assert {row.labels[1] for row in corpus.rows} == {7.0}
    assert [row.labels[0] for row in corpus.rows] == [labels[0] for *_, labels in sorted(EXPECTED)]


def test_a_listed_table_with_more_rows_is_named(tmp_path):
    settings = save(split_tables(make_database()), tmp_path, tables=["arousal.train", "valence"])
    with pytest.raises(DataError, match="db.valence.csv: 6 of its rows are not in table 'arousal.train', as"):
        read_corpus(settings)


@pytest.mark.parametrize("scheme", ["table", "labels"])
@pytest.mark.parametrize("spelled", ["{}.0", "0{}", "{}"])
def test_ids_as_other_programs_leave_them(tmp_path, scheme, spelled):
    """A column of numbers with a gap is one of floats in pandas; the split is known of the speaker `3` alone."""
    settings = save(make_database(scheme), tmp_path, tables="emotion")
    cells = "".join(f"{file},{spelled.format(speaker)},0\n" for file, speaker in SPEAKER_OF.items())
    (tmp_path / "db.files.csv").write_text(f"file,speaker,duration\n{cells}")
    found = {row.utterance_id: (row.speaker_id, row.split) for row in read_corpus(settings).rows}
    name = spelled.removesuffix(".0")
    assert found == {file: (name.format(speaker), split) for file, speaker, split, _ in EXPECTED}


def test_unquoted_ids_in_a_header_are_text(tmp_path):
    """YAML takes 010 for 8, and 1e1 for 10."""
    settings = save(make_database("labels"), tmp_path, tables="emotion")
    header = (tmp_path / "db.yaml").read_text()
    for number, name in {3: "010", 8: "8", 11: "1e1", 12: "10"}.items():
        header = header.replace(f"      {number}:", f"      {name}:")
        path = tmp_path / "db.files.csv"
        path.write_text(path.read_text().replace(f"wav,{number},", f"wav,{name} ,").replace(" ,", ","))
    (tmp_path / "db.yaml").write_text(header)
    corpus = read_corpus(settings | {"speakers_differ": True})
    assert {row.speaker_id: row.split for row in corpus.rows} == {
        "010": "train", "8": "validation", "1e1": "test", "10": "test"
    }  # fmt: skip
