"""The tables of studies that lack something: labels, speakers, audio, utterances to enrol."""

import pyarrow as pa
import pytest
from made_results import METHODS, MadeResults
from read_results import read_csv

from ser.evaluation.cells import (
    CONSTANT,
    SPEAKER_MEAN,
)
from ser.files import DataError, write_json
from ser.formats.parquet import read_parquet, write_parquet


def test_a_speaker_without_more_utterances_than_any_method_enrols(tmp_path):
    """It is scored by no method that enrols, however few utterances that takes, and counted."""
    methods = [{"name": "enrol_1", "enrolment": 1}, {"name": "enrol_15", "enrolment": 15}, {"name": "mu_sigma"}]
    made = MadeResults(tmp_path, ["baseline"], [1], methods=methods)
    made.evaluate()
    for row in read_csv(made.root / "speaker_summary.csv"):
        if row["calibration"].startswith("enrol"):
            assert (row["n_speakers"], row["n_only_enrolment"]) == ("0", "24" if row["split"] == "test" else "20")
    curve = [row for row in read_csv(made.root / "enrolment_curve.csv") if row["split"] == "test"]
    assert {row["calibration"]: row["a_ccc"] for row in curve} == {"enrol_1": "", "enrol_15": ""}


def test_a_withheld_target_has_no_rows_and_one_speaker_no_interval(tmp_path):
    made = MadeResults(tmp_path, seeds=[1], speakers={"train": 9, "validation": 4, "test": 1}, methods=METHODS[:1])
    labels = read_parquet(made.labels("test"))
    write_parquet(made.labels("test"), labels.set_column(2, "valence", pa.nulls(len(labels), pa.float64())))
    made.evaluate()
    rows = [row for row in read_csv(made.root / "ablation_table.csv") if row["split"] == "test"]
    assert {row["target"] for row in rows} == {"arousal"}
    assert {row["ablation"] for row in rows} == {"baseline", "other", CONSTANT, SPEAKER_MEAN}
    for row in rows:
        assert row["a_ccc"] and row["a_ccc_low"] == row["a_ccc_high"] == row["o_ccc_low"] == row["a_ccc_sd"] == ""


def test_an_empty_test_split_has_no_rows(tmp_path):
    made = MadeResults(tmp_path, seeds=[1], speakers={"train": 9, "validation": 4, "test": 0}, methods=METHODS[:1])
    made.evaluate()
    made.study(calibration="mu")
    assert {row["split"] for row in read_csv(made.root / "ablation_table.csv")} == {"validation"}
    assert read_csv(made.root / "label_shift.csv") == []


def test_rejected_audio_is_not_scored(tmp_path):
    """An utterance without a prediction, and a speaker without any, are left out everywhere."""
    made = MadeResults(tmp_path, seeds=[1], methods=METHODS[:1])
    for ablation in made.ablations:
        path = made.seed_files("predictions", ablation, "test")[0]
        write_parquet(path, read_parquet(path).slice(16))  # all of the first speaker, one of the second
    made.evaluate()
    row = read_csv(made.root / "ablation_table.csv")[1]
    assert (row["split"], row["n_speakers"], row["n_utterances"]) == ("test", "23", str(24 * 15 - 16))
    assert not any(s["speaker_id"] == "test 000" for s in read_csv(made.root / "speaker_table.csv"))


def test_ablations_with_other_utterances_cannot_be_compared(tmp_path):
    made = MadeResults(tmp_path, seeds=[1], methods=[])
    path = made.seed_files("predictions", "other", "test")[0]
    write_parquet(path, read_parquet(path).slice(1))
    with pytest.raises(DataError, match=r"other/seed-1/test.parquet: expected each of the 360 utterances"):
        made.evaluate()


def test_an_encoder_with_trained_weights_is_not_marked(tmp_path):
    made = MadeResults(tmp_path, ["baseline"], [1], speakers={"train": 3, "validation": 3}, methods=[])
    write_json(made.root / "encoders/demo/card.json", {"weights": "pretrained"})
    made.evaluate()
    assert read_csv(made.root / "ablation_table.csv")[0]["encoder"] == "demo"
