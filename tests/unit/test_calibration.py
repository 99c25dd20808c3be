"""The calibration stage on made-up results: against a plain reading of the method, and its degenerate cases."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from made_results import METHODS, TARGETS, MadeResults

from ser.config.calibration_methods import Method, check_studied, read_methods
from ser.files import DataError, read_json
from ser.formats.parquet import read_parquet, write_parquet
from ser.statistics.ccc import compute_ccc


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    results = MadeResults(tmp_path_factory.mktemp("made"))
    results.evaluate()
    return results


def read(path):
    return read_parquet(path).to_pylist()


def by_speaker(rows, target):
    values = {}
    for row in rows:
        values.setdefault(row["speaker_id"], []).append(row[target])
    return {speaker: np.array(v, float) for speaker, v in values.items()}


def nearest(vectors, references, speaker, k):
    """The k most similar training speakers, by the cosine written out."""

    def cosine(other):
        a, b = np.array(vectors[speaker]), np.array(references[other])
        return a @ b / np.sqrt((a @ a) * (b @ b))

    return sorted(references, key=cosine, reverse=True)[:k]


def read_vectors(path):
    return {row["speaker_id"]: row["vector"] for row in read(path)}


def choice_of(made, ablation, seed, calibration, target):
    choices = read_json(made.choices(ablation))["choices"]
    key = (seed, calibration, target)
    return next(c for c in choices if (c["seed"], c["calibration"], c["target"]) == key)


def calibrate_plainly(made, ablation, seed_number, split, target, shift, k):
    """PLDC as the paper says it, speaker by speaker: {speaker: calibrated predictions}."""
    labels = by_speaker(read(made.labels("train")), target)
    references = read_vectors(made.seed_files("speaker_vectors", ablation, "train")[seed_number])
    vectors = read_vectors(made.seed_files("speaker_vectors", ablation, split)[seed_number])
    calibrated = {}
    for speaker, y in by_speaker(read(made.seed_files("predictions", ablation, split)[seed_number]), target).items():
        similar = nearest(vectors, references, speaker, k)
        mean = np.mean([labels[s].mean() for s in similar])
        std = np.mean([np.sqrt(np.mean((labels[s] - labels[s].mean()) ** 2)) for s in similar])
        scores = (y - y.mean()) / y.std()
        formulas = {"mu": y - y.mean() + mean, "sigma": scores * std + y.mean(), "mu_sigma": scores * std + mean}
        calibrated[speaker] = formulas[shift]
    return calibrated


@pytest.mark.parametrize("shift", ["mu", "sigma", "mu_sigma"])
def test_against_the_paper_written_out(made, shift):
    """The chosen k has the best validation A-CCC of all k, and its calibrated predictions are in the file."""
    target, ablation, seed_number = "arousal", "other", 1
    truth = by_speaker(read(made.labels("validation")), target)
    scores = {}
    for k in (1, 2, 3, 5, 10, 20, 50, 60):
        calibrated = calibrate_plainly(made, ablation, seed_number, "validation", target, shift, k)
        scores[k] = np.mean([compute_ccc(truth[s], calibrated[s]) for s in truth])
    choice = choice_of(made, ablation, made.seeds[seed_number], shift, target)
    assert choice["k"] == max(scores, key=scores.get)
    curve = {point["k"]: point["a_ccc"] for point in choice["curve"]}
    assert curve == pytest.approx(scores, abs=1e-6)  # vectors in the files are float32
    calibrated = calibrate_plainly(made, ablation, seed_number, "test", target, shift, choice["k"])
    rows = [r for r in read(made.seed_files("calibrated", ablation, "test")[seed_number]) if r["calibration"] == shift]
    found = by_speaker(rows, target)
    assert found.keys() == calibrated.keys()
    for speaker in found:
        np.testing.assert_allclose(found[speaker], calibrated[speaker], atol=1e-5)  # stored as float32


def test_the_file_is_as_the_contract_says(made):
    table = read_parquet(made.seed_files("calibrated", "baseline", "test")[0])
    assert table.column_names == ["utterance_id", "speaker_id", "calibration", *TARGETS]
    predictions = read_parquet(made.seed_files("predictions", "baseline", "test")[0])
    none = table.filter(pc.equal(table["calibration"].cast("string"), "none"))
    for column in ("utterance_id", "speaker_id", *TARGETS):
        assert none[column].to_pylist() == predictions[column].to_pylist()
    names = list(dict.fromkeys(table["calibration"].to_pylist()))
    draws = [f"random_k/{draw:02d}" for draw in range(10)]
    # enrol_20 has no rows: no speaker has more than 15 utterances
    methods = [m["name"] for m in METHODS if m["name"] not in ("random_k", "enrol_20")]
    assert names == ["none", *methods[:-1], *draws, "global"]


def test_enrolment_uses_the_first_utterances_and_leaves_them_out(made):
    rows = read(made.seed_files("calibrated", "baseline", "test")[0])
    ids = {}
    for row in rows:
        ids.setdefault(row["calibration"], {}).setdefault(row["speaker_id"], []).append(row["utterance_id"])
    for speaker, everything in ids["none"].items():
        first = sorted(everything, key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:5]
        assert sorted(ids["enrol_5"][speaker]) == sorted(set(everything) - set(first))
    # mean of the calibrated enrolment predictions would be the neighbours'; the slope is target / own spread of those 5
    target = "valence"
    speaker = "test 003"
    own = {row["utterance_id"]: row[target] for row in rows if row["calibration"] == "none"}
    first = sorted(ids["none"][speaker], key=lambda i: hashlib.sha256(i.encode()).hexdigest())[:5]
    y = np.array([own[i] for i in first], float)
    enrolment = read(made.seed_files("enrolment_vectors", "baseline", "test")[0])
    vector = np.mean([row["vector"] for row in enrolment if row["utterance_id"] in first], axis=0)
    k = choice_of(made, "baseline", made.seeds[0], "enrol_5", target)["k"]
    references = read_vectors(made.seed_files("speaker_vectors", "baseline", "train")[0])
    labels = by_speaker(read(made.labels("train")), target)
    similar = nearest({speaker: vector}, references, speaker, k)
    mean, std = (np.mean([f(labels[s]) for s in similar]) for f in (np.mean, np.std))
    found = {row["utterance_id"]: row[target] for row in rows if row["calibration"] == "enrol_5"}
    for utterance in ids["enrol_5"][speaker]:
        assert found[utterance] == pytest.approx((own[utterance] - y.mean()) / y.std() * std + mean, abs=1e-5)


def test_controls_differ_from_plain_pldc_in_the_neighbours_only(made):
    """Random neighbours share k and are training speakers; all neighbours are the mean of all speakers."""
    labels = by_speaker(read(made.labels("train")), "valence")
    for choice in read_json(made.choices("baseline"))["choices"]:
        if choice["calibration"] == "random_k":
            assert choice["k"] == choice_of(made, "baseline", choice["seed"], "mu_sigma", choice["target"])["k"]
        if choice["calibration"] == "global":
            assert choice["k"] == 60
    rows = read(made.seed_files("calibrated", "baseline", "test")[0])
    for speaker, values in by_speaker([r for r in rows if r["calibration"] == "global"], "valence").items():
        assert values.mean() == pytest.approx(np.mean([v.mean() for v in labels.values()]), abs=1e-5), speaker
        assert values.std() == pytest.approx(np.mean([v.std() for v in labels.values()]), abs=1e-5)
    draws = [by_speaker([r for r in rows if r["calibration"] == f"random_k/0{d}"], "valence") for d in (0, 1)]
    assert any(abs(draws[0][s].mean() - draws[1][s].mean()) > 1e-3 for s in draws[0])


def test_shrinkage_is_at_least_as_good_on_validation_and_1_is_none(made):
    for choice in read_json(made.choices("baseline"))["choices"]:
        if choice["calibration"] == "pldc_shrunk":
            plain = choice_of(made, "baseline", choice["seed"], "mu_sigma", choice["target"])
            assert choice["a_ccc"] >= plain["a_ccc"] - 1e-9
            untouched = {point["a_ccc"] for point in choice["curve"] if point["alpha"] == 1}
            number = made.seeds.index(choice["seed"])
            truth = by_speaker(read(made.labels("validation")), choice["target"])
            y = by_speaker(read(made.seed_files("predictions", "baseline", "validation")[number]), choice["target"])
            assert list(untouched) == pytest.approx([np.mean([compute_ccc(truth[s], y[s]) for s in truth])], abs=1e-8)


def test_no_test_label_and_no_clock_reaches_a_byte(tmp_path):
    """Other test labels, and another run: the same bytes."""
    files = []
    for number in range(2):
        made = MadeResults(tmp_path / str(number), ablations=["baseline"], seeds=[1], methods=METHODS[:4])
        path = made.labels("test")
        if number:
            table = read_parquet(path)
            write_parquet(path, table.set_column(2, "valence", pa.array(np.arange(len(table), dtype=float))))
        made.root.joinpath("calibrated").mkdir()
        made.choose("baseline")
        made.calibrate("baseline", "test")
        choices = read_json(made.choices("baseline"))["choices"]
        files.append((choices, read(made.seed_files("calibrated", "baseline", "test")[0])))
    assert files[0] == files[1]


def test_provenance_is_recorded(made):
    metadata = read_parquet(made.seed_files("calibrated", "baseline", "test")[0]).schema.metadata
    assert list(json.loads(metadata[b"labels"])) == [made.labels("train")]
    assert list(read_json(made.choices("baseline"))["labels"]) == [made.labels("train"), made.labels("validation")]


def test_fewer_training_speakers_than_k(tmp_path):
    speakers = {"train": 3, "validation": 4, "test": 4}
    made = MadeResults(tmp_path, ["baseline"], [1], speakers=speakers, methods=[{"name": "mu_sigma"}])
    made.choose("baseline", k=[2, 50, 100])
    choice = read_json(made.choices("baseline"))["choices"][0]
    assert [point["k"] for point in choice["curve"]] == [2, 3]  # 50 and 100 are all 3
    made.calibrate("baseline", "test")


def test_one_utterance_and_constant_predictions(tmp_path):
    """sigma = 0 moves the mean and nothing else; enrolment from the only utterance leaves nothing to score."""
    methods = [{"name": "mu"}, {"name": "mu_sigma"}, {"name": "enrol_1", "enrolment": 1}]
    made = MadeResults(tmp_path, ["baseline"], [1], methods=methods)
    path = made.seed_files("predictions", "baseline", "test")[0]
    table = read_parquet(path)
    constant = pa.array(np.full(len(table), 3.7, np.float32))
    table = table.set_column(2, "valence", constant).slice(14, 16)  # 1 of the first speaker, all of the next
    write_parquet(path, table)
    path = made.seed_files("enrolment_vectors", "baseline", "test")[0]
    enrolment = read_parquet(path)
    write_parquet(path, enrolment.filter(pc.is_in(enrolment["utterance_id"], table["utterance_id"].combine_chunks())))
    made.choose("baseline")
    made.calibrate("baseline", "test")
    rows = read(made.seed_files("calibrated", "baseline", "test")[0])
    for name in ("mu", "mu_sigma"):
        values = by_speaker([r for r in rows if r["calibration"] == name], "valence")
        assert {s: len(v) for s, v in values.items()} == {"test 000": 1, "test 001": 15}
        assert all(np.isfinite(v).all() and np.ptp(v) == 0 for v in values.values())
    assert set(by_speaker([r for r in rows if r["calibration"] == "enrol_1"], "valence")) == {"test 001"}


def test_an_empty_split_gives_an_empty_file(tmp_path):
    made = MadeResults(tmp_path, ["baseline"], [1], speakers={"train": 5, "validation": 4, "test": 0})
    made.choose("baseline")
    made.calibrate("baseline", "test")
    assert len(read(made.seed_files("calibrated", "baseline", "test")[0])) == 0


def test_errors_name_what_is_wrong(tmp_path):
    made = MadeResults(tmp_path, ["baseline"], [1], methods=METHODS[:1])
    with pytest.raises(DataError, match="no validation speaker has 16 utterances .* valence"):
        made.choose("baseline", policy={"min_utterances": 16})
    with pytest.raises(DataError, match=r"train.parquet: no training speaker has 99 utterances"):
        made.choose("baseline", min_reference_utterances=99)
    made.choose("baseline")
    path = made.seed_files("speaker_vectors", "baseline", "test")[0]
    write_parquet(path, read_parquet(path).slice(1))
    with pytest.raises(DataError, match=r"test.parquet: expected a vector of speaker test 000"):
        made.calibrate("baseline", "test")


def set_value(path, value):
    """The first valence of a file becomes `value`."""
    table = read_parquet(path)
    values = [value, *table["valence"].to_pylist()[1:]]
    write_parquet(path, table.set_column(2, "valence", pa.array(values, table["valence"].type)))


def test_labels_and_predictions_that_are_not_numbers(tmp_path):
    made = MadeResults(tmp_path, ["baseline"], [1], methods=METHODS[:1])
    set_value(made.seed_files("predictions", "baseline", "validation")[0], np.nan)
    with pytest.raises(DataError, match="prediction for utterance validation 000/0000 is not finite"):
        made.choose("baseline")
    set_value(made.labels("validation"), None)
    with pytest.raises(DataError, match="valence of utterance validation 000/0000 is missing"):
        made.choose("baseline")
    table = read_parquet(made.labels("train"))
    write_parquet(made.labels("train"), table.set_column(2, "valence", pa.nulls(len(table), pa.float64())))
    with pytest.raises(DataError, match="training labels cannot be withheld"):
        made.choose("baseline", validation_labels=made.labels("test"))


@pytest.mark.parametrize(
    "entries, message",
    [
        ([{"name": "a"}, {"name": "a"}], "'a' is there twice"),
        ([{"name": "a", "enrolment": 5, "similarity": "mfcc"}], "'a': enrolment compares the fused vectors"),
        ([{"name": "a", "neighbours": "all", "shrinkage": True}], "'a': weighting and shrinkage go with"),
    ],
)
def test_methods_that_contradict_themselves(entries, message):
    with pytest.raises(DataError, match=message):
        read_methods(entries)


def test_the_studied_method_exists():
    assert check_studied("a", [Method("a")]) == check_studied("a", []) == "a"  # without methods no gain is studied
    with pytest.raises(DataError, match="'b' is none of calibration.methods"):
        check_studied("b", [Method("a")])
