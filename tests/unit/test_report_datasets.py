"""What the report draws: rows by their keys, thinned curves, the plane of speakers, what a run takes on the disk."""

import numpy as np
import pytest

from ser.files import write_text
from ser.report.datasets import collect_training, group_rows
from ser.report.run import measure_disk
from ser.report.speaker_map import project


def test_the_plane_is_that_of_a_singular_value_decomposition():
    rng = np.random.default_rng(5)
    references, others = rng.normal(size=(30, 8)) + 2, rng.normal(size=(4, 8)) + 2
    (plane, shown), share = project(references, others)
    unit = references / np.linalg.norm(references, axis=1, keepdims=True)
    centre = unit.mean(axis=0)
    _, values, axes = np.linalg.svd(unit - centre, full_matrices=False)
    other = (others / np.linalg.norm(others, axis=1, keepdims=True) - centre) @ axes[:2].T
    # the sign of a component is arbitrary; both ways are exact to rounding
    np.testing.assert_allclose(np.abs(plane), np.abs((unit - centre) @ axes[:2].T), atol=1e-9)
    np.testing.assert_allclose(np.abs(shown), np.abs(other), atol=1e-9)
    assert share == pytest.approx(np.sum(values[:2] ** 2) / np.sum(values**2))


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (3, 1)])
def test_few_speakers_have_a_plane_too(shape):
    (plane,), share = project(np.arange(1.0, 1 + shape[0] * shape[1]).reshape(shape))
    assert plane.shape == (shape[0], 2) and np.isfinite(plane).all() and np.isfinite(share)


def test_a_file_with_two_names_is_on_disk_once(tmp_path):
    write_text(tmp_path / "embeddings/a", "12345")
    write_text(tmp_path / "table.csv", "123")
    write_text(tmp_path / "logs/score.log", "not counted")
    (tmp_path / ".reuse").mkdir()
    (tmp_path / ".reuse/b").hardlink_to(tmp_path / "embeddings/a")
    assert measure_disk(tmp_path) == [
        {"kind": "embeddings", "files": 1, "bytes": 5},
        {"kind": "tables", "files": 1, "bytes": 3},
    ]


def test_a_training_log_is_drawn_whatever_it_measures(tmp_path):
    lines = [f"{step},{step // 10},train,{1 / (step + 1)},0.5,,0.001" for step in range(1000)]
    lines += ["999,99,validation,0.25,,0.125,0"]
    write_text(
        tmp_path / "training.csv", "\n".join(["step,epoch,split,loss,accuracy,perplexity,learning_rate", *lines]) + "\n"
    )
    curves, measures = collect_training({"tapt": str(tmp_path / "training.csv")})
    assert measures == ["loss", "accuracy", "perplexity"]
    loss = dict(zip(curves.fields, curves.groups["loss"], strict=True))
    steps = [step for step, split in zip(loss["step"], loss["split"], strict=True) if split == "train"]
    assert len(steps) <= 402 and steps[0] == 0 and steps[-1] == 999  # thinned, with both ends
    assert curves.groups["perplexity"] == [["tapt"], ["validation"], [999], [0.125]]


def test_a_group_is_found_by_its_keys():
    rows = [{"a": "x", "b": 1, "c": 0.123456}, {"a": "y", "b": 1, "c": 2.0}, {"a": "x", "b": 1, "c": None}]
    dataset = group_rows(("a", "b"), ("c",), rows)
    assert dataset.groups == {"x|1": [[0.1235, None]], "y|1": [[2]]}
