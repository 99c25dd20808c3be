"""Exported predictions are read by the audformat package, and are those of the run."""

import audformat
import numpy as np
import pandas
import pytest
from made_results import METHODS, MadeResults

from ser.corpus.audformat import read_usage
from ser.report.audformat_export import export_predictions


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = MadeResults(tmp_path_factory.mktemp("made"), ablations=["baseline"], methods=[METHODS[2], METHODS[8]])
    made.choose("baseline")
    for split in made.evaluated:
        made.calibrate("baseline", split)
    return made


@pytest.mark.parametrize("calibration", ["none", "mu_sigma", "enrol_5"])
def test_audformat_reads_what_was_calibrated(made, tmp_path, calibration):
    labels = {split: made.labels(split) for split in made.evaluated}
    export_predictions(labels, made.calibrated(), calibration, made.targets, [-9, 17], tmp_path / "db.yaml")
    database = audformat.Database.load(tmp_path, load_data=True)
    assert database.is_portable
    assert {name: split.type for name, split in database.splits.items()} == {"validation": "dev", "test": "test"}
    for split in made.evaluated:
        truth = pandas.read_parquet(made.labels(split)).set_index("utterance_id")
        found = database[f"labels.{split}"].get()
        np.testing.assert_array_equal(found, truth.loc[found.index, made.targets])
        assert (database["files"]["speaker"].get(found.index) == truth.loc[found.index, "speaker_id"]).all()
        for seed, path in zip(made.seeds, made.seed_files("calibrated", "baseline", split), strict=True):
            rows = pandas.read_parquet(path)
            rows = rows[rows["calibration"] == calibration].set_index("utterance_id")
            found = database[f"predictions.{split}.seed-{seed}"].get()
            assert set(found.index) == set(rows.index) and len(found) == len(rows)
            np.testing.assert_allclose(found, rows.loc[found.index, made.targets], rtol=1e-7)  # float32


def test_the_usage_is_that_of_the_source(made, tmp_path):
    labels, calibrated = {"test": made.labels("test")}, made.seed_files("calibrated", "baseline", "test")
    source = tmp_path / "source" / "db.yaml"
    source.parent.mkdir()
    said = {"research": "research", "commercial": "commercial", "free for all": "other", "null": "other", "[]": "other"}
    for number, (usage, expected) in enumerate(said.items()):
        source.write_text(f"name: made\nusage: {usage}\ntables: {{}}\n")
        header = tmp_path / str(number) / "db.yaml"
        export_predictions(labels, calibrated, "none", made.targets, [-9, 17], header, read_usage(source))
        assert audformat.Database.load(header.parent).usage == expected
    export_predictions(labels, calibrated, "none", made.targets, [-9, 17], tmp_path / "db.yaml")
    assert audformat.Database.load(tmp_path).usage == "other"  # of a sheet, which says nothing


def test_labels_that_are_withheld_are_empty(made, tmp_path):
    path = tmp_path / "test.parquet"
    pandas.read_parquet(made.labels("test")).assign(valence=np.nan).to_parquet(path)
    calibrated = made.seed_files("calibrated", "baseline", "test")
    export_predictions({"test": path}, calibrated, "none", made.targets, [-9, 17], tmp_path / "db.yaml")
    assert audformat.Database.load(tmp_path, load_data=True)["labels.test"].get()["valence"].isna().all()
