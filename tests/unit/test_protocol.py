"""The guard: each way to break the protocol stops the workflow with its reason."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from made_results import METHODS, MadeResults, enrolment_order

from ser.config.ablation import Ablation
from ser.config.calibration_methods import Method
from ser.corpus.metadata import REJECTED
from ser.evaluation.tables import name_protocol
from ser.files import DataError, read_json, write_json
from ser.formats.csv_files import write_csv
from ser.formats.parquet import read_parquet, write_parquet


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    made = MadeResults(tmp_path_factory.mktemp("made"), seeds=[1], methods=[METHODS[2], METHODS[8], METHODS[10]])
    made.evaluate()
    return made


@pytest.fixture
def made(pristine, tmp_path):
    """A copy to break, at the same place: the files name each other."""
    shutil.copytree(pristine.root, tmp_path / "copy")
    yield pristine
    shutil.rmtree(pristine.root)
    shutil.copytree(tmp_path / "copy", pristine.root)


def rewrite(path, column, change):
    """Change a column of a Parquet file, keeping its metadata."""
    table = read_parquet(path)
    values = change(table[column].to_pylist())
    changed = table.set_column(table.column_names.index(column), column, pa.array(values, table[column].type))
    write_parquet(path, changed.replace_schema_metadata(table.schema.metadata))


def test_an_honest_study_passes(made):
    made.check()
    report = read_json(made.root / "protocol.json")
    assert report["splits"]["test"] == {"speakers": 24, "utterances": 360, "set_aside": 0}
    assert len(report["checked"]) == 4


def test_what_was_set_aside_is_counted_apart(made):
    """All of one speaker and one utterance of another: as in the tables, which have neither."""
    table = read_parquet(made.labels("test")).to_pylist()
    speaker = table[0]["speaker_id"]
    gone = [row for row in table if row["speaker_id"] == speaker] + [table[-1]]
    rows = [{"split": "test", "path": "x.wav", "reason": "silent"} | row for row in gone]
    write_csv(made.root / "rejected.csv", list(REJECTED), [{name: row[name] for name in REJECTED} for row in rows])
    made.check(rejected=str(made.root / "rejected.csv"))
    split = read_json(made.root / "protocol.json")["splits"]["test"]
    assert split == {"speakers": 23, "utterances": 360 - len(gone), "set_aside": len(gone)}


def test_a_speaker_in_two_splits(made):
    rewrite(made.labels("test"), "speaker_id", lambda ids: ["train 005", *ids[1:]])
    with pytest.raises(DataError, match="speaker 'train 005' is in the splits train and test"):
        made.check()


def test_an_utterance_in_two_splits(made):
    rewrite(made.labels("test"), "utterance_id", lambda ids: ["validation 000/0000", *ids[1:]])
    with pytest.raises(DataError, match="utterance 'validation 000/0000' is in the splits validation and test"):
        made.check()


def test_calibration_that_saw_test_labels(made):
    """The rule handed test labels to the job: what it wrote says so."""
    made.calibrate("baseline", "test", train_labels=made.labels("test"), train=made.files("baseline", "test"))
    with pytest.raises(DataError, match=r"calibration read the labels \[.*test.parquet.*expected training labels only"):
        made.check()


def test_calibration_with_training_labels_of_another_time(made):
    rewrite(made.labels("train"), "valence", lambda values: [values[0] + 1, *values[1:]])
    with pytest.raises(DataError, match="k was chosen on 'validation' .* as they are now"):
        made.check()


def test_k_chosen_on_test_speakers(made):
    made.choose("baseline", validation_labels=made.labels("test"), validation=made.files("baseline", "test"))
    with pytest.raises(DataError, match=r"k was chosen on .*test.parquet.*expected validation"):
        made.check()


def test_k_changed_by_hand(made):
    choices = read_json(made.choices("baseline"))
    choices["choices"][0] |= choices["choices"][0]["curve"][-1]
    write_json(made.choices("baseline"), choices)
    with pytest.raises(DataError, match="does not have the best A-CCC on validation"):
        made.check()


def test_choices_changed_after_calibration(made):
    choices = read_json(made.choices("baseline"))
    write_json(made.choices("baseline"), choices | {"note": "later"})
    with pytest.raises(DataError, match="was not calibrated with the k and alpha of .*choices.json"):
        made.check()


def test_a_k_other_than_the_one_recorded(made):
    """Predictions calibrated with another k, under the right names: the validation A-CCC does not come out."""
    rewrite(made.seed_files("calibrated", "baseline", "validation")[0], "valence", lambda v: list(np.array(v) * 1.1))
    with pytest.raises(DataError, match="was chosen for an A-CCC of"):
        made.check()


def test_predictions_of_another_split(made):
    files = made.seed_files("calibrated", "baseline", "test"), made.seed_files("calibrated", "baseline", "validation")
    shutil.copy(files[1][0], files[0][0])
    with pytest.raises(DataError, match="utterance 'validation 000/0000' of speaker 'validation 000' is not in"):
        made.check()


LABELLED = [METHODS[2], METHODS[8], {"name": "labels_3", "enrolment": 3, "enrolment_labels": True}]


@pytest.fixture
def labelled(tmp_path):
    made = MadeResults(tmp_path, ["baseline"], [1], methods=LABELLED)
    made.evaluate()
    return made


def change_cut(made, change):
    path = made.enrolment_labels("test")
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(change(lines)) + "\n")


def test_labelled_enrolment_is_said(labelled, made):
    (said,) = (line for line in read_json(labelled.root / "protocol.json")["checked"] if "read training" in line)
    assert said.endswith("but for those of utterances that speakers are enrolled with, which are not scored")
    (said,) = (line for line in read_json(made.root / "protocol.json")["checked"] if "read training" in line)
    assert said == "calibration read training labels only"


def test_enrolment_labels_that_are_others_now(labelled):
    change_cut(labelled, lambda lines: lines[:-1])
    with pytest.raises(DataError, match=r"calibration read the labels \[.*enrolment_labels.csv.*as they are now"):
        labelled.check()


def test_enrolment_labels_without_a_method_for_them(labelled):
    with pytest.raises(DataError, match="expected none, because no method enrols with labels"):
        labelled.check(methods=LABELLED[:2], enrolment_labels={})


def test_calibration_that_saw_labels_of_more_utterances_than_are_enrolled(labelled):
    rows = {row["utterance_id"]: row for row in read_parquet(labelled.labels("test")).to_pylist()[:15]}
    more = rows[enrolment_order(list(rows), 1)[3]]
    change_cut(labelled, lambda lines: [*lines, ",".join(map(str, (1, *more.values())))])
    labelled.choose("baseline")
    for split in labelled.evaluated:
        labelled.calibrate("baseline", split)
    with pytest.raises(DataError, match="has 4 labels of speaker test 000 in draw 1, expected at most 3"):
        labelled.check()


def test_calibration_that_saw_a_label_that_is_scored(labelled):
    """As many labels as are enrolled, but one is of an utterance that the draw scores."""
    rows = {row["utterance_id"]: row for row in read_parquet(labelled.labels("test")).to_pylist()[:15]}
    last = enrolment_order(list(rows), 0)[-1]
    scored = ",".join(map(str, (0, *rows[last].values())))
    change_cut(labelled, lambda lines: [lines[0], scored, *lines[2:]])
    for split in labelled.evaluated:
        labelled.calibrate("baseline", split)
    with pytest.raises(DataError, match=f"enrol_5/00 has utterance '{last}', whose label calibration could read"):
        labelled.check()


def test_enrolment_labels_that_are_not_those_of_the_split(labelled):
    change_cut(labelled, lambda lines: [lines[0], lines[1] + "1", *lines[2:]])
    labelled.calibrate("baseline", "test")
    with pytest.raises(DataError, match=r"enrolment_labels.csv: expected the labels of .*test.parquet"):
        labelled.check()


def test_files_without_provenance(made):
    path = made.seed_files("calibrated", "baseline", "test")[0]
    write_parquet(path, read_parquet(path).replace_schema_metadata({"labels": json.dumps({})}))
    with pytest.raises(DataError, match=r"calibration read the labels \[\]"):
        made.check()


@pytest.mark.parametrize(
    "differs, method, expected",
    [
        ({}, Method("none"), "inductive"),
        ({}, Method("mu"), "transductive"),
        ({}, Method("enrol_5", enrolment=5), "enrolment"),
        ({}, Method("labels_5", enrolment=5, enrolment_labels=True), "enrolment, labelled"),
        ({"speaker": "mfcc"}, Method("labels_5", enrolment=5, enrolment_labels=True), "enrolment, labelled"),
        # the ablation itself reads the mean over all of the speaker's utterances
        ({"speaker": "mfcc"}, Method("none"), "transductive"),
        ({"speaker": "mfcc"}, Method("enrol_5", enrolment=5), "transductive"),
        # its training saw the test speakers' audio
        ({"weighting": "similar_speakers"}, Method("none"), "transductive"),
        # its encoder did, or places them by all of it
        ({"hears": True}, Method("none"), "transductive"),
        ({"hears": True}, Method("enrol_5", enrolment=5), "transductive"),
    ],
)
def test_each_row_says_what_it_needs(differs, method, expected):
    settings = {key: value for key, value in differs.items() if key != "hears"}
    assert name_protocol(Ablation("e", **settings), "hears" in differs, method) == expected
