"""Tuning finds what training with each point by itself would find."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from test_training import TARGETS, TRAINING, ablation, make_split, run_training

from ser.config.ablation import Ablation
from ser.config.tuning_grid import apply_point, list_points, resolve_tuned
from ser.files import DataError, read_json
from ser.heads.tuning import read_score, tune_ablation

GRID = {"learning_rate": [0.03, 0.0001], "mlp": [[8], [16, 8]], "transformer": [{"width": 4}]}
TRANSFORMER = Ablation("e", head="transformer", units={"width": 8, "max_frames": 100}, training=TRAINING)


def test_points_are_all_combinations_of_what_applies():
    assert list_points(ablation(), GRID) == [
        {"learning_rate": 0.03, "mlp": [8]},
        {"learning_rate": 0.03, "mlp": [16, 8]},
        {"learning_rate": 0.0001, "mlp": [8]},
        {"learning_rate": 0.0001, "mlp": [16, 8]},
    ]
    assert list_points(ablation(), dict(reversed(GRID.items()))) == list_points(ablation(), GRID)
    assert [point["transformer"] for point in list_points(TRANSFORMER, GRID)] == [{"width": 4}] * 2
    assert list_points(ablation(), {}) == [{}]


def test_a_point_is_laid_over_the_settings():
    settings = ablation()
    tuned = apply_point(settings, {"learning_rate": 0.5, "mlp": [3]})
    assert tuned == replace(settings, training=TRAINING | {"learning_rate": 0.5}, units=[3])
    assert settings == ablation() and apply_point(settings, {}) == settings
    assert apply_point(TRANSFORMER, {"transformer": {"width": 4}}).units == {"width": 4, "max_frames": 100}


def test_a_tuned_ablation_has_the_grid_that_decides_it():
    ablations = {"a": ablation(), "b": ablation(tuned="a")}
    resolved = resolve_tuned(ablations, GRID)
    assert resolved == {"a": ablation(), "b": ablation(tuned={"ablation": "a", "grid": GRID})}
    assert resolve_tuned({"a": ablation()}, {}) == {"a": ablation()}


@pytest.mark.parametrize(
    ("tuned", "grid", "message"),
    [
        ("z", GRID, r"config: ablations: 'b': tuned is 'z', expected one of a, b, t$"),
        ("t", GRID, r"'b': tuned is 't', whose head is another \(transformer\)"),
        (
            "a",
            {"transformer": [{"width": 4}, {"width": 2}]},
            r"'b': tuned needs a grid of two points or more .*head mlp",
        ),
    ],
)
def test_tuning_that_makes_no_sense_is_refused(tuned, grid, message):
    with pytest.raises(DataError, match=message):
        resolve_tuned({"a": ablation(), "b": ablation(tuned=tuned), "t": TRANSFORMER}, grid)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {"train": make_split(folder, "train", 10, 0), "validation": make_split(folder, "validation", 2, 1)}


def tune(splits, folder, grid, **changes):
    table, winner = str(folder / "tuning" / "a.csv"), str(folder / "tuning" / "a.json")
    options = {"seeds": [1, 2], "targets": TARGETS, "memory_bytes": 1e9, "table": table, "winner": winner}
    tune_ablation(ablation(**changes), grid, **options, **splits)
    with open(table, newline="") as file:
        return list(csv.DictReader(file)), read_json(winner)


def test_points_score_as_if_each_was_trained_by_itself(splits, tmp_path):
    grid = {"learning_rate": [0.0001, 0.03], "mlp": [[16, 8]]}
    rows, winner = tune(splits, tmp_path, grid)
    scores = {}
    for rate in grid["learning_rate"]:
        settings = ablation(training=TRAINING | {"learning_rate": rate})
        run_training(**splits, out=tmp_path / str(rate), settings=settings, seeds=(1, 2))
        for seed in (1, 2):
            with open(tmp_path / str(rate) / f"models/seed-{seed}/history.csv", newline="") as file:
                ccc = [(row["epoch"], row["target"], float(row["validation_ccc"])) for row in csv.DictReader(file)]
            epochs = [[c for target in TARGETS for e, t, c in ccc if (e, t) == (epoch, target)] for epoch in "12"]
            scores[rate, seed] = max(epochs, key=np.mean)
    assert [row["learning_rate"] for row in rows] == ["0.03", "0.0001"]  # the better one first
    assert [row["mlp"] for row in rows] == ["[16, 8]"] * 2
    for row in rows:
        both = np.array([scores[float(row["learning_rate"]), seed] for seed in (1, 2)])  # (seeds, targets)
        assert float(row["ccc"]) == pytest.approx(both.mean(), abs=1e-6)  # histories have 6 decimals
        assert float(row["ccc_sd"]) == pytest.approx(abs(np.diff(both.mean(axis=1))[0]) / np.sqrt(2), abs=2e-6)
        found = [float(row[f"{target}_ccc"]) for target in TARGETS]
        assert found == pytest.approx(both.mean(axis=0), abs=1e-6)
    assert winner["settings"] == {"learning_rate": 0.03, "mlp": [16, 8]}
    assert (winner["chosen_on"], winner["points"]) == ("validation", 2)


def test_targets_may_stop_at_different_epochs(tmp_path):
    rows = ["1,a,0.5,0.1,1", "1,b,0.5,0.3,1", "2,a,0.4,0.2,1", "2,b,0.4,0.4,0", "10,a,0.3,0.15,0"]
    (tmp_path / "history.csv").write_text("\n".join(["epoch,target,loss,validation_ccc,best", *rows]))
    assert read_score(tmp_path / "history.csv", ["b", "a"]) == [0.3, 0.2]


def test_a_point_that_cannot_be_trained_is_named(splits, tmp_path):
    with pytest.raises(DataError, match=r'tuning: \{"learning_rate": 1e\+30\}: training went out of bounds'):
        tune(splits, tmp_path, {"learning_rate": [1e30]})
    assert not list(tmp_path.iterdir())
