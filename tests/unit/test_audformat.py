"""Databases in audformat, written by the package of that name and read as a corpus."""

import audformat
import pandas
import pytest
import yaml
from test_corpus import SETTINGS

from ser.corpus.sheet import read_corpus
from ser.files import DataError

SPEAKER_OF = {f"wav/{speaker}{take}.wav": speaker for speaker in (3, 8, 11, 12) for take in "ab"}
SPLIT_OF = {3: "train", 8: "dev", 11: "test", 12: "test"}
TABLES = {"train": "emotion.train", "validation": "emotion.dev", "test": "emotion.test"}


def make_database(speaker_scheme="table", segmented=False, speaker="speaker"):
    """A database as EMO-DB's: labels in `emotion` and its parts by split, speakers in `files`, who they are beside."""
    database = audformat.Database("made", source="internal", usage=audformat.define.Usage.RESEARCH)
    for target in ("valence", "arousal"):
        database.schemes[target] = audformat.Scheme("float", minimum=1, maximum=7)
    if speaker_scheme == "table":
        table = audformat.MiscTable(pandas.Index(list(SPLIT_OF), dtype="Int64", name="speaker"))
        database["speaker"] = table
        for column, values in {"age": [31, 40, 25, 60], "split": list(SPLIT_OF.values())}.items():
            table[column] = audformat.Column()
            table[column].set(values)
        database.schemes["speaker"] = audformat.Scheme("int", labels="speaker")
    else:
        labels = {number: {"age": 31, "split": split} for number, split in SPLIT_OF.items()}
        database.schemes["speaker"] = audformat.Scheme("int", labels=labels)
    database["files"] = audformat.Table(audformat.filewise_index(list(SPEAKER_OF)))
    database["files"][speaker] = audformat.Column(scheme_id="speaker")
    database["files"][speaker].set(list(SPEAKER_OF.values()))
    database["files"]["duration"] = audformat.Column()
    database["files"]["duration"].set(pandas.to_timedelta(range(len(SPEAKER_OF)), unit="s"))
    for split in ("train", "dev", "test"):
        database.splits[split] = audformat.Split(split)
    parts = {"emotion": list(SPLIT_OF.values())} | {f"emotion.{split}": [split] for split in ("train", "dev", "test")}
    for name, splits in parts.items():
        files = [file for file, speaker in SPEAKER_OF.items() if SPLIT_OF[speaker] in splits]
        index = audformat.segmented_index(files) if segmented else audformat.filewise_index(files)
        database[name] = audformat.Table(index)
        for target, offset in {"valence": 1.0, "arousal": 1.25}.items():
            database[name][target] = audformat.Column(scheme_id=target)
            database[name][target].set([offset + list(SPEAKER_OF).index(file) / 2 for file in files])
    return database


def save(database, folder, storage_format="csv", **settings):
    database.save(folder, storage_format=storage_format)
    return SETTINGS | {"folder": str(folder), "layout": "audformat", "tables": TABLES, "columns": {}} | settings


EXPECTED = [
    (file, str(speaker), {"dev": "validation"}.get(SPLIT_OF[speaker], SPLIT_OF[speaker]), (1 + n / 2, 1.25 + n / 2))
    for n, (file, speaker) in enumerate(SPEAKER_OF.items())
]


def list_rows(settings):
    return [(row.utterance_id, row.speaker_id, row.split, row.labels) for row in read_corpus(settings).rows]


@pytest.mark.parametrize("storage_format", ["csv", "parquet"])
@pytest.mark.parametrize("speaker_scheme", ["table", "labels"])
@pytest.mark.parametrize("tables", [TABLES, "emotion"], ids=["a table a split", "a column"])
@pytest.mark.parametrize("segmented", [False, True], ids=["files", "whole segments"])
def test_it_is_what_was_written(tmp_path, storage_format, speaker_scheme, tables, segmented):
    settings = save(make_database(speaker_scheme, segmented), tmp_path, storage_format, tables=tables)
    assert list_rows(settings) == sorted(EXPECTED)
    assert {row.path for row in read_corpus(settings).rows} == {f"{tmp_path}/{file}" for file in SPEAKER_OF}


def test_columns_can_have_other_names(tmp_path):
    columns = {"speaker": "talker", "arousal": "valence"}
    settings = save(make_database(speaker="talker"), tmp_path, tables="emotion", columns=columns)
    assert list_rows(settings) == sorted((*row[:3], (row[3][0],) * 2) for row in EXPECTED)


def test_labels_may_be_withheld_of_a_test_table(tmp_path):
    database = make_database()
    for target in ("valence", "arousal"):
        database["emotion.test"][target].set([None] * 4)
    for storage_format in ("csv", "parquet"):
        rows = list_rows(save(database, tmp_path / storage_format, storage_format))
        assert {labels for *_, split, labels in rows if split == "test"} == {(None, None)}


def test_a_bad_row_is_named_with_its_table(tmp_path):
    settings = save(make_database(), tmp_path)
    path = tmp_path / "db.emotion.train.csv"
    path.write_text(path.read_text().replace("wav/3b.wav,1.5", "wav/3b.wav,9.5"))
    with pytest.raises(DataError, match=r"row 3 of db.emotion.train.csv: valence '9.5' is not a number from 1 to 7"):
        read_corpus(settings)


def test_a_file_in_two_tables_is_named_with_both(tmp_path):
    settings = save(make_database(), tmp_path, tables=TABLES | {"validation": "emotion"})
    with pytest.raises(DataError, match=r"row 2 of db.emotion.csv: file 'wav/3a.wav' is listed already in row 2 of db"):
        read_corpus(settings)


def test_a_speaker_that_no_table_knows(tmp_path):
    settings = save(make_database(), tmp_path)
    path = tmp_path / "db.files.csv"
    path.write_text("".join(line for line in path.open() if not line.startswith("wav/8a")))
    corpus = read_corpus(settings)
    assert [row.utterance_id for row in corpus.rows if row.split == "validation"] == ["wav/8b.wav"]
    assert corpus.left_out == {"speaker ''": 1}


def test_pickled_tables_are_not_opened(tmp_path):
    settings = save(make_database(), tmp_path, "pkl")
    with pytest.raises(DataError, match="table 'emotion.train' is pickled, and pickles can run code: save"):
        read_corpus(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tables": ""}, "corpus.tables: expected the tables with the labels; .*db.yaml has emotion, emotion.dev"),
        ({"tables": TABLES | {"test": "emotion.tset"}}, "no table 'emotion.tset'; did you mean 'emotion.test'"),
        (
            {"columns": {"arousal": "activation"}},
            "db.yaml: no table of files has a column 'activation'; set",
        ),
        ({"columns": {"speaker": "talker"}}, "no table of files has a column 'talker'; set corpus.columns"),
        ({"tables": "emotion", "columns": {"split": "part"}}, "nor the scheme of 'speaker' has a column 'part'"),
        ({"sheet": "other.yaml"}, "other.yaml: there is no such header"),
    ],
)
def test_wrong_settings_are_named(tmp_path, settings, message):
    with pytest.raises(DataError, match=message):
        read_corpus(save(make_database(), tmp_path, **settings))


@pytest.mark.parametrize(
    ("text", "message"), [("[1, 2", "is no YAML"), ("a: 1", "names no tables"), ("1", "names no tables")]
)
def test_what_is_no_header_is_named(tmp_path, text, message):
    settings = save(make_database(), tmp_path)
    (tmp_path / "db.yaml").write_text(text)
    with pytest.raises(DataError, match=f"db.yaml: {message}"):
        read_corpus(settings)


def test_a_file_that_the_header_names_and_is_not_there(tmp_path):
    settings = save(make_database(), tmp_path)
    (tmp_path / "db.emotion.dev.csv").unlink()
    with pytest.raises(DataError, match="has no db.emotion.dev.parquet or .csv, which its header names"):
        read_corpus(settings)


def test_a_header_runs_no_code(tmp_path):
    settings = save(make_database(), tmp_path)
    header = yaml.safe_load((tmp_path / "db.yaml").read_text())
    marker = tmp_path / "ran"
    (tmp_path / "db.yaml").write_text(f"{yaml.safe_dump(header)}x: !!python/object/apply:os.mkdir [{marker}]\n")
    with pytest.raises(DataError, match="is no YAML"):
        read_corpus(settings)
    assert not marker.exists()


@pytest.mark.parametrize("storage_format", ["csv", "parquet"])
@pytest.mark.parametrize("speaker_scheme", ["table", "labels"])
def test_groups_are_columns_of_files_or_of_the_speakers_scheme(tmp_path, storage_format, speaker_scheme):
    database = make_database(speaker_scheme)
    database["files"]["accent"] = audformat.Column()
    database["files"]["accent"].set(["north", None] * 4)  # of each speaker's second file nothing is said
    columns = {"years": "age"}
    settings = save(database, tmp_path, storage_format, groups=["years", "accent"], columns=columns)
    ages = {3: "31", 8: "40", 11: "25", 12: "60"} if speaker_scheme == "table" else dict.fromkeys(SPLIT_OF, "31")
    assert read_corpus(settings).groups == {str(number): (age, "north") for number, age in ages.items()}


def test_a_speaker_of_whom_the_scheme_says_nothing(tmp_path):
    database = make_database("labels")
    database.schemes["speaker"].replace_labels({n: {"sex": None if n == 3 else "f"} for n in SPLIT_OF})
    assert read_corpus(save(database, tmp_path, groups=["sex"])).groups["3"] == ("unknown",)
    with pytest.raises(DataError, match="nor the scheme of 'speaker' has a column 'gender'; set corpus.columns"):
        read_corpus(save(database, tmp_path, groups=["gender"]))


HEADERS = {
    "tables as a list": ("tables: [a]", "names no tables"),
    "a table that is none": ("tables: {emotion: 3}", "'emotion' is no table of an audformat database"),
    "columns that are none": ("tables: {emotion: {columns: [a]}}", "'emotion' is no table of an audformat database"),
    "a path as a name": ("tables: {../../x: {}}", "'../../x' is no table of an audformat database"),
    "a name that moves the cursor": ('tables: {"\\x1b[2J": {}}', r"'\\x1b\[2J' is no table of an audformat database"),
    "schemes that are none": ("schemes: [a]\ntables: {emotion: {}}", "its schemes are none of an audformat database"),
    "a tag": ("tables: !!python/object/apply:os.system [touch ran]", "is no YAML"),
    "nested without end": ("tables: " + "[" * 5_000, "is no YAML"),
}


@pytest.mark.parametrize(("text", "message"), HEADERS.values(), ids=HEADERS)
def test_a_header_that_is_none_is_named(tmp_path, text, message):
    (tmp_path / "db.yaml").write_text(text)
    settings = SETTINGS | {"folder": str(tmp_path), "layout": "audformat", "tables": TABLES, "columns": {}}
    with pytest.raises(DataError, match=f"db.yaml: {message}"):
        read_corpus(settings)


def test_a_table_that_unpacks_to_more_than_any_corpus_is_refused(tmp_path, monkeypatch):
    settings = save(make_database(), tmp_path, "parquet")
    monkeypatch.setattr("ser.formats.parquet.MOST_ROWS", 1)
    with pytest.raises(DataError, match="parquet: cannot be read as Parquet .it has . rows; expected 1 at most"):
        read_corpus(settings)
