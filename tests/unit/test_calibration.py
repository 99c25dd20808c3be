"""The calibration stage on made-up results: against a plain reading of the method, and its degenerate cases."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from made_results import DRAWS, METHODS, TARGETS, MadeResults
from read_results import by_speaker, choice_of, nearest, read, read_vectors

from ser.config.calibration_methods import Method, check_studied, read_methods
from ser.files import DataError, read_json, write_json
from ser.formats.parquet import read_parquet, write_parquet
from ser.statistics.ccc import compute_ccc


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    results = MadeResults(tmp_path_factory.mktemp("made"))
    results.evaluate()
    return results


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
    expected = ["none"]
    for method in METHODS:
        draws = 10 if method.get("neighbours") == "random" else DRAWS if method.get("enrolment") else 0
        expected += [f"{method['name']}/{draw:02d}" for draw in range(draws)] or [method["name"]]
    assert names == expected


def test_pooled_statistics_are_those_of_the_neighbours_labels_together(made):
    target, seed_number = "arousal", 1
    choice = choice_of(made, "baseline", made.seeds[seed_number], "mu_sigma_pooled", target)
    labels = by_speaker(read(made.labels("train")), target)
    references, vectors = (
        read_vectors(made.seed_files("speaker_vectors", "baseline", split)[seed_number]) for split in ("train", "test")
    )
    rows = read(made.seed_files("calibrated", "baseline", "test")[seed_number])
    for speaker, values in by_speaker([r for r in rows if r["calibration"] == "mu_sigma_pooled"], target).items():
        pooled = np.concatenate([labels[s] for s in nearest(vectors, references, speaker, choice["k"])])
        assert (values.mean(), values.std()) == pytest.approx((pooled.mean(), pooled.std()), abs=1e-5)


def test_a_gate_leaves_alone_those_who_are_more_similar_than_its_threshold(made):
    """Thresholds of the grid are quantiles of the validation speakers' similarity, and are applied as they are."""
    target, seed_number = "valence", 0
    choice = choice_of(made, "other", made.seeds[seed_number], "mu_sigma_gated", target)
    plain = choice_of(made, "other", made.seeds[seed_number], "mu_sigma", target)
    assert choice["a_ccc"] >= plain["a_ccc"]  # no threshold is one of the grid
    files = {s: made.seed_files("speaker_vectors", "other", s)[seed_number] for s in made.splits}
    vectors = {split: read_vectors(path) for split, path in files.items()}

    def similarity(split, speaker, k):
        own = np.array(vectors[split][speaker])
        other = np.array([vectors["train"][s] for s in nearest(vectors[split], vectors["train"], speaker, k)])
        return np.mean(other @ own / np.linalg.norm(other, axis=1) / np.linalg.norm(own))

    for k in (1, 5, 60):
        limits = [point["max_similarity"] for point in choice["curve"] if point["k"] == k]
        known = sorted(similarity("validation", s, k) for s in vectors["validation"])
        assert limits[:3] == pytest.approx([known[4], known[9], known[14]], abs=1e-6)  # of 20 speakers
        assert limits[3] is None
    # with a threshold that parts the test speakers
    gate = {"name": "mu_sigma_gated", "gate": True}
    gated = MadeResults(made.root.parent / "gate", ["baseline"], [1], methods=[gate, {"name": "mu_sigma"}])
    gated.choose("baseline", k=[5], gate=[0.5])
    chosen = choice_of(gated, "baseline", 1, "mu_sigma_gated", target)
    gated.calibrate("baseline", "test")
    rows = read(gated.seed_files("calibrated", "baseline", "test")[0])
    values = {
        name: by_speaker([r for r in rows if r["calibration"] == name], target)
        for name in ("none", "mu_sigma_gated", "mu_sigma")
    }
    files = [gated.seed_files("speaker_vectors", "baseline", split)[0] for split in ("train", "test")]
    vectors = dict(zip(("train", "test"), map(read_vectors, files), strict=True))
    moved = {speaker: similarity("test", speaker, 5) <= chosen["max_similarity"] for speaker in vectors["test"]}
    assert 0 < sum(moved.values()) < len(moved)
    for speaker, value in values["mu_sigma_gated"].items():
        np.testing.assert_array_equal(value, values["mu_sigma" if moved[speaker] else "none"][speaker])


def test_mfcc_similarity_is_blind_to_the_level_of_recordings(made):
    """-10 dB of all files of a speaker is a lower c0, by 10 times the root of 128 bands, and nothing else."""
    made.calibrate("baseline", "test")
    before = (made.root / "calibrated/baseline/seed-1/test.parquet").read_bytes()
    path = made.root / "speakers/test/shard-000.json"
    text = path.read_text()
    speakers = read_json(path)
    for entry in list(speakers.values())[::2]:
        entry["mfcc"][0] -= 10 * np.sqrt(128)
    write_json(path, speakers)
    made.calibrate("baseline", "test")
    path.write_text(text)
    assert (made.root / "calibrated/baseline/seed-1/test.parquet").read_bytes() == before


def test_left_out_training_speakers_are_counted(tmp_path):
    made = MadeResults(tmp_path, ["baseline"], [1], methods=METHODS[:1])
    labels = read_parquet(made.labels("train"))
    write_parquet(made.labels("train"), labels.slice(12))  # 3 of the first speaker are left
    made.choose("baseline", min_reference_utterances=5)
    assert read_json(made.choices("baseline"))["references"] == {"used": 59, "few_utterances": 1}


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
    made.choose("baseline")
    made.calibrate("baseline", "test")
    rows = read(made.seed_files("calibrated", "baseline", "test")[0])
    for name in ("mu", "mu_sigma"):
        values = by_speaker([r for r in rows if r["calibration"] == name], "valence")
        assert {s: len(v) for s, v in values.items()} == {"test 000": 1, "test 001": 15}
        assert all(np.isfinite(v).all() and np.ptp(v) == 0 for v in values.values())
    for draw in range(DRAWS):
        assert set(by_speaker([r for r in rows if r["calibration"] == f"enrol_1/0{draw}"], "valence")) == {"test 001"}


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
        ([{"name": "a", "neighbours": "all", "shrinkage": True}], "'a': weighting, shrinkage and gate go with"),
        ([{"name": "a", "neighbours": "random", "gate": True}], "'a': weighting, shrinkage and gate go with"),
        (
            [{"name": "a", "enrolment": 5, "gate": True}],
            "'a': enrolment goes with neither random neighbours nor a gate",
        ),
        ([{"name": "a", "enrolment": 5, "neighbours": "random"}], "'a': enrolment goes with neither random neighbours"),
        ([{"name": "a", "enrolment_labels": True}], "'a': enrolment_labels needs enrolment"),
        ([{"name": "a", "enrolment": 5, "enrolment_labels": True, "shrinkage": True}], "goes without shrinkage"),
    ],
)
def test_methods_that_contradict_themselves(entries, message):
    with pytest.raises(DataError, match=message):
        read_methods(entries)


def test_the_studied_method_exists():
    assert check_studied("a", [Method("a")]) == check_studied("a", []) == "a"  # without methods no gain is studied
    with pytest.raises(DataError, match="'b' is none of calibration.methods"):
        check_studied("b", [Method("a")])
