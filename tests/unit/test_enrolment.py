"""Enrolment, without and with labels: against the methods written out again, and what can reach calibration."""

import numpy as np
import pyarrow as pa
import pytest
from made_results import DRAWS, METHODS, MadeResults, enrolment_order
from read_results import by_speaker, choice_of, nearest, read, read_vectors

from ser.files import DataError, read_json
from ser.formats.csv_files import read_rows
from ser.formats.parquet import read_parquet, write_parquet
from ser.statistics.bootstrap import draw_speakers
from ser.statistics.ccc import compute_ccc
from ser.statistics.moments import Policy, measure_speakers, stack
from ser.statistics.seed_values import value_o_ccc


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    results = MadeResults(tmp_path_factory.mktemp("made"), ["baseline"])
    results.evaluate()
    return results


ENROL_15 = {"name": "enrol_15", "enrolment": 15}  # all that a speaker has
MOST = max(method.get("enrolment", 0) for method in METHODS)


def read_ids(path):
    """The utterances of each calibration and speaker."""
    ids = {}
    for row in read(path):
        ids.setdefault(row["calibration"], {}).setdefault(row["speaker_id"], []).append(row["utterance_id"])
    return ids


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_number_of_enrolled_utterances_is_scored_on_the_same_rest(made, split):
    """A draw's rest is what the largest method leaves, by the hashes written out again; draws differ."""
    for path in made.seed_files("calibrated", "baseline", split):
        ids = read_ids(path)
        for method in (m for m in METHODS if m.get("enrolment")):
            for draw in range(DRAWS):
                for speaker, everything in ids["none"].items():
                    rest = enrolment_order(everything, draw)[MOST:]
                    assert sorted(ids[f"{method['name']}/{draw:02d}"][speaker]) == sorted(rest)
        assert ids["enrol_5/00"] != ids["enrol_5/01"]


def calibrate_enrolled(made, seed_number, split, draw, target, count, share, k):
    """The rest of each speaker of a draw, calibrated from its first `count` utterances: {utterance: value}."""
    labels = by_speaker(read(made.labels("train")), target)
    truth = {row["utterance_id"]: row[target] for row in read(made.labels(split))}
    references = read_vectors(made.seed_files("speaker_vectors", "baseline", "train")[seed_number])
    vectors = {
        row["utterance_id"]: row["vector"]
        for row in read(made.seed_files("enrolment_vectors", "baseline", split)[seed_number])
    }
    speakers, calibrated = {}, {}
    for row in read(made.seed_files("predictions", "baseline", split)[seed_number]):
        speakers.setdefault(row["speaker_id"], {})[row["utterance_id"]] = row[target]
    for speaker, own in speakers.items():
        order = enrolment_order(list(own), draw)
        first = order[:count]
        y = np.array([own[name] for name in first], float)
        vector = np.mean([np.array(vectors[name], float) for name in first], axis=0)
        similar = nearest({speaker: vector}, references, speaker, k)
        mean, std = (np.mean([f(labels[s]) for s in similar]) for f in (np.mean, np.std))
        if share is not None:
            known = np.array([truth[name] for name in first])
            mean, std = (1 - share) * mean + share * known.mean(), (1 - share) * std + share * known.std(ddof=1)
        slope = std / y.std(ddof=1)
        calibrated |= {name: slope * (own[name] - y.mean()) + mean for name in order[MOST:]}
    return calibrated


@pytest.mark.parametrize("name", ["enrol_5", "labels_5"])
def test_enrolment_against_the_method_written_out(made, name):
    """In each draw, on test; on validation k and the share have the A-CCC, averaged over draws, of their curve."""
    target, seed_number = "valence", 0
    choice = choice_of(made, "baseline", made.seeds[seed_number], name, target)
    assert (choice["alpha"] is None) == (name == "enrol_5")
    for draw in range(DRAWS):
        rows = [
            row
            for row in read(made.seed_files("calibrated", "baseline", "test")[seed_number])
            if row["calibration"] == f"{name}/{draw:02d}"
        ]
        expected = calibrate_enrolled(made, seed_number, "test", draw, target, 5, choice["alpha"], choice["k"])
        found = {row["utterance_id"]: row[target] for row in rows}
        assert found == pytest.approx(expected, abs=1e-5)  # stored as float32
    truth = {row["utterance_id"]: (row["speaker_id"], row[target]) for row in read(made.labels("validation"))}
    for point in [choice["curve"][0], choice["curve"][-1], choice]:
        scores = []
        for draw in range(DRAWS):
            pairs = {}
            key = (target, 5, point["alpha"], point["k"])
            for utterance, value in calibrate_enrolled(made, seed_number, "validation", draw, *key).items():
                pairs.setdefault(truth[utterance][0], []).append((truth[utterance][1], value))
            scores.append(np.mean([compute_ccc(*np.array(pair).T) for pair in pairs.values()]))
        assert point["a_ccc"] == pytest.approx(np.mean(scores), abs=1e-6)
    assert choice["a_ccc"] == max(point["a_ccc"] for point in choice["curve"])


def test_one_enrolled_utterance_moves_the_mean_alone(made):
    """Neither its predictions nor its labels have a spread."""
    methods = [{"name": "one", "enrolment": 1}, {"name": "one_labelled", "enrolment": 1, "enrolment_labels": True}]
    one = MadeResults(made.root.parent / "one", ["baseline"], [1], methods=methods)
    one.choose("baseline")
    one.calibrate("baseline", "test")
    rows = read(one.seed_files("calibrated", "baseline", "test")[0])
    y = {row["utterance_id"]: row["arousal"] for row in rows if row["calibration"] == "none"}
    for name in ("one/00", "one_labelled/00"):
        moves = {}
        for row in rows:
            if row["calibration"] == name:
                moves.setdefault(row["speaker_id"], []).append(row["arousal"] - y[row["utterance_id"]])
        assert all(len(move) == 14 and np.ptp(move) < 1e-5 for move in moves.values())
        assert len({round(move[0], 3) for move in moves.values()}) > 12


def test_labels_of_what_is_scored_cannot_reach_calibration(tmp_path):
    """All labels but those that a draw enrols are changed: what the draw scores is the same, to the bit.

    The file that calibration reads has labels of the enrolled utterances alone, and it reads no other of the split.
    """
    methods = [{"name": "labels_5", "enrolment": 5, "enrolment_labels": True}, {"name": "enrol_8", "enrolment": 8}]
    made = MadeResults(tmp_path, ["baseline"], [1], methods=methods)
    made.choose("baseline")
    before = calibrate_and_read(made)
    whole = read_parquet(made.labels("test"))
    ids = {}
    for row in whole.to_pylist():
        ids.setdefault(row["speaker_id"], []).append(row["utterance_id"])
    for draw in range(DRAWS):
        enrolled = {name for own in ids.values() for name in enrolment_order(own, draw)[:5]}
        cut = read_rows(made.enrolment_labels("test"))
        assert {row["utterance_id"] for row in cut if row["draw"] == str(draw)} == enrolled
        changed = [
            value if name in enrolled else 8 - value
            for name, value in zip(whole["utterance_id"].to_pylist(), whole["valence"].to_pylist(), strict=True)
        ]
        write_parquet(made.labels("test"), whole.set_column(2, "valence", pa.array(changed)))
        made.cut_labels("test")
        after = calibrate_and_read(made)
        assert after[f"labels_5/{draw:02d}"] == before[f"labels_5/{draw:02d}"]
        assert all(after[f"enrol_8/{d:02d}"] == before[f"enrol_8/{d:02d}"] for d in range(DRAWS))
        others = [d for d in range(DRAWS) if d != draw]
        assert all(after[f"labels_5/{d:02d}"] != before[f"labels_5/{d:02d}"] for d in others)  # they were used there
        write_parquet(made.labels("test"), whole)
        made.cut_labels("test")


def calibrate_and_read(made):
    made.calibrate("baseline", "test")
    values = {}
    for row in read(made.seed_files("calibrated", "baseline", "test")[0]):
        values.setdefault(row["calibration"], []).append((row["utterance_id"], row["valence"]))
    return values


def test_withheld_labels_are_no_labels(tmp_path):
    """Of a split without labels a speaker is moved to its neighbours alone; so is one whose audio was set aside."""
    methods = [{"name": "labels_5", "enrolment": 5, "enrolment_labels": True}, {"name": "enrol_5", "enrolment": 5}]
    made = MadeResults(tmp_path, ["baseline"], [1], methods=methods)
    made.choose("baseline", alpha=[0.5], k=[3])
    table = read_parquet(made.labels("test"))
    write_parquet(made.labels("test"), table.set_column(2, "valence", pa.nulls(len(table), pa.float64())))
    made.cut_labels("test")
    values = calibrate_and_read(made)
    assert values["labels_5/01"] == values["enrol_5/01"]


def test_nobody_has_more_utterances_than_are_enrolled(tmp_path):
    made = MadeResults(tmp_path, ["baseline"], [1], methods=[{"name": "enrol_1", "enrolment": 1}, ENROL_15])
    made.choose("baseline")
    assert [choice["k"] for choice in read_json(made.choices("baseline"))["choices"]] == [None] * 4
    made.calibrate("baseline", "test")
    assert list(read_ids(made.seed_files("calibrated", "baseline", "test")[0])) == ["none"]


def test_enrolment_without_a_vector_of_an_utterance(tmp_path):
    made = MadeResults(tmp_path, ["baseline"], [1], methods=[ENROL_15])
    path = made.seed_files("enrolment_vectors", "baseline", "validation")[0]
    write_parquet(path, read_parquet(path).slice(1))
    with pytest.raises(
        DataError, match=r"utterance validation 000/0000 of the predictions has no vector in .*enrolment"
    ):
        made.choose("baseline")


def test_runs_of_other_utterances_are_pooled_each_by_itself():
    """Each draw of enrolled utterances leaves others, as many of each speaker: its labels are its own."""
    rng = np.random.default_rng(2)
    speaker = np.repeat(np.arange(6), 9)
    truth = 4 + rng.normal(size=6)[speaker] + rng.normal(size=54)
    prediction = truth + rng.normal(size=54)
    weights, runs = draw_speakers(6, 30, 1), []
    for _ in range(3):
        rows = np.concatenate([rng.permutation(np.flatnonzero(speaker == s))[:5] for s in range(6)])
        runs.append(measure_speakers(truth[rows], prediction[rows], speaker[rows], 6))
    together = stack(runs, of_same_utterances=False)
    for number, run in enumerate(runs):
        np.testing.assert_allclose(together.ccc[number], run.ccc, atol=1e-12)
        np.testing.assert_allclose(together.pool(weights).ccc[number], run.pool(weights).ccc, atol=1e-12)
        np.testing.assert_allclose(together.pool().rmse[number], run.pool().rmse, atol=1e-12)
        o_ccc, values = value_o_ccc(run, 1)  # the jackknife behind intervals
        np.testing.assert_allclose(value_o_ccc(together, 3)[0][number], o_ccc, atol=1e-12)
        np.testing.assert_allclose(value_o_ccc(together, 3)[1][number], values, atol=1e-12)
    constant = [measure_speakers(np.where(speaker == 2, 1, truth), prediction, speaker, 6)]
    counted = Policy().count(stack([*constant, measure_speakers(truth, prediction, speaker, 6)], False))
    assert counted.tolist() == [True, True, False, True, True, True]  # labels that are all the same in one draw
