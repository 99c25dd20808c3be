"""The guard: each way to break the protocol stops the workflow with its reason."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from made_results import METHODS, MadeResults

from ser.config.ablation import Ablation
from ser.config.calibration_methods import Method
from ser.evaluation.tables import name_protocol
from ser.files import DataError, read_json, write_json
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
    assert report["splits"]["test"] == {"speakers": 24, "utterances": 360}
    assert len(report["checked"]) == 4


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
