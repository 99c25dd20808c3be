"""The runner calibrates as the workflow does: every method, with and without enrolment, on made-up results."""

import numpy as np
import pyarrow as pa
import pytest
from made_results import DRAWS, METHODS, TARGETS, MadeResults
from read_results import read

from ser.adaptation.neighbours import place_speakers
from ser.bundles.references import collect_placement, collect_references, describe_method, measure_half_widths
from ser.config.ablation import Ablation
from ser.config.bundles import check_bundles, list_bundled
from ser.config.calibration_methods import read_methods
from ser.evaluation import recording_scores
from ser.evaluation.calibration_inputs import read_evidence
from ser.files import DataError, read_json
from ser.formats.parquet import write_parquet
from ser.formats.tensors import write_tensors
from ser.formats.utterances import read_labels
from ser.statistics.conformal import measure_half_width
from ser_score.calibration import Method, References, average_seeds, describe, estimate, fit, rank

CASES = [method for method in read_methods(METHODS) if method.neighbours != "random"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = MadeResults(tmp_path_factory.mktemp("made"), ablations=["baseline"])
    made.choose("baseline")
    for split in ("validation", "test"):
        made.calibrate("baseline", split)
    return made


def bundle(made, method):
    """The method and the references as a bundle has them, and the training speakers' names."""
    arrays, names = collect_references(
        made.labels("train"), TARGETS, made.files("baseline", "train"), [0, 1], 1, method.similarity
    )
    means, stds = np.split(arrays["statistics"], 2, axis=1)
    described = describe_method(method, read_json(made.choices("baseline"))["choices"], made.seeds, TARGETS)
    keys = ("name", "shift", "neighbours", "similarity", "weighting", "statistics", "enrolment", "enrolment_labels")
    kept = Method(**{key: described[key] for key in keys}, points=described["points"], half_widths=np.zeros(2))
    return kept, References(arrays["vectors"], means, stds, arrays["counts"]), names


@pytest.mark.parametrize("method", CASES, ids=lambda method: method.name)
def test_a_speaker_is_calibrated_as_in_the_workflow(made, method):
    kept, references, _ = bundle(made, method)
    files = made.files("baseline", "test")
    held_out, draw = (10, 1) if method.enrolment else (0, 0)
    for seed in (0, 1):
        evidence = read_evidence(TARGETS, files, seed, DRAWS, held_out)
        name = f"{method.name}/{draw:02d}" if method.enrolment else method.name
        rows = read(made.seed_files("calibrated", "baseline", "test")[seed])
        expected = {row["utterance_id"]: [row[t] for t in TARGETS] for row in rows if row["calibration"] == name}
        ids = evidence.predictions.ids.to_pylist()
        assert expected
        for number in (0, 5, 11):
            own = np.flatnonzero(evidence.predictions.speaker == number)
            values = evidence.predictions.values[own]
            if method.enrolment:
                taken = own[evidence.enrolment.ranks[draw, own] < method.enrolment]
                mean, std = estimate(evidence.predictions.values[taken])
                moments = mean, np.nan_to_num(std)
                labels = evidence.enrolment.labels[draw, taken]
                known = estimate(labels) if method.enrolment_labels else moments
                vector = evidence.enrolment.vectors[taken].astype(float).mean(axis=0)
            else:
                moments = known = describe(values)
                vector = evidence.vectors[method.similarity][number]
            found = fit(kept, seed, references, vector, moments, known).apply(values)
            scored = [n for n, row in enumerate(own) if ids[row] in expected]
            right = [expected[ids[own[n]]] for n in scored]
            np.testing.assert_allclose(found[scored], right, atol=1e-5)  # stored as float32


def test_neighbours_are_the_workflows_without_their_names(made):
    method = next(method for method in CASES if method.name == "mu_sigma")
    kept, references, names = bundle(made, method)
    assert len(set(names)) == len(names) == 60
    assert names != sorted(names)  # the order is that of the labels
    assert (np.diff(references.stds[:, -1]) >= 0).all()
    evidence = read_evidence(TARGETS, made.files("baseline", "test"), 0)
    moments = describe(evidence.predictions.values[evidence.predictions.speaker == 3])
    vector = evidence.vectors["fused"][3]
    line = fit(kept, 0, references, vector, moments, moments)
    vectors = {row["speaker_id"]: row["vector"] for row in read(made.files("baseline", "train")["fused"][0])}
    cosine = {s: np.dot(v, vector) / np.linalg.norm(v) / np.linalg.norm(vector) for s, v in vectors.items()}
    assert [names[n] for n in line.order[:5]] == sorted(cosine, key=cosine.get, reverse=True)[:5]


def test_seeds_are_averaged_as_in_the_workflow():
    runs = np.random.default_rng(0).normal(4, 1, (3, 7, 2))
    runs[:, :, 1] = 2.5  # nothing to stretch
    expected = recording_scores.average_seeds(runs, np.zeros(7, int))
    np.testing.assert_allclose(average_seeds(runs), expected, atol=1e-12)


def test_intervals_are_those_of_scored_recordings(made):
    truth, paths = (
        read_labels(made.labels("validation"), TARGETS),
        made.seed_files("calibrated", "baseline", "validation"),
    )
    method = next(method for method in CASES if method.name == "pldc_shrunk")
    expected = recording_scores.measure_errors(paths, "pldc_shrunk", truth, 3, 0.8)
    assert measure_half_widths(method, paths, truth, 3, 0.8) == expected.tolist()
    assert measure_half_widths(method, paths, truth, 3, 0.99) == [None, None]  # 20 speakers promise no more than 0.95


def test_intervals_with_enrolment_are_of_what_is_scored_by_it(made):
    truth, paths = (
        read_labels(made.labels("validation"), TARGETS),
        made.seed_files("calibrated", "baseline", "validation"),
    )
    method = next(method for method in CASES if method.name == "enrol_5")
    runs = [{(r["calibration"], r["utterance_id"]): r for r in read(path)} for path in paths]
    labels = {row["utterance_id"]: row for row in read(made.labels("validation"))}
    keys = [key for key in runs[0] if key[0].startswith("enrol_5/")]
    speakers = [runs[0][key]["speaker_id"] for key in keys]
    for t, target in enumerate(TARGETS):
        errors = [abs(np.mean([run[key][target] for run in runs]) - labels[key[1]][target]) for key in keys]
        expected = measure_half_width(np.array(errors), np.unique(speakers, return_inverse=True)[1], 0.8)
        assert measure_half_widths(method, paths, truth, 1, 0.8)[t] == pytest.approx(expected, abs=1e-9)


def test_a_new_speaker_is_placed_as_in_the_workflow(tmp_path):
    """The mean of the vectors of the speakers whose features are most similar."""

    rng = np.random.default_rng(1)
    names, vectors = ["c", "a", "b", "d"], rng.normal(size=(4, 3)).astype(np.float32)
    write_tensors(tmp_path / "head.safetensors", {"speaker_vectors": vectors}, {"speakers": '["c", "a", "b", "d"]'})
    means = {name: rng.normal(size=5).astype(np.float32) for name in ("a", "b", "c", "nobody")}
    columns = {"speaker_id": pa.array(list(means)), "mean": pa.array(list(means.values()), pa.list_(pa.float32()))}
    write_parquet(tmp_path / "means.parquet", pa.table(columns))
    arrays = collect_placement(str(tmp_path / "head.safetensors"), [str(tmp_path / "means.parquet")])
    new = rng.normal(size=5).astype(np.float32)
    near = place_speakers(means | {"new": new}, names, 2)["new"]
    expected = np.mean([vectors[names.index(name)] for name in near], axis=0)
    order, _ = rank(new, arrays["means"])
    np.testing.assert_allclose(arrays["vectors"][order[:2]].mean(axis=0), expected, atol=1e-6)


# The config


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (
            {"ablation": "absent"},
            r"bundles\.b: ablation is 'absent', expected one of plain, control, other, normalised, tuned",
        ),
        ({"calibration": "absent"}, "calibration is 'absent', expected one of none, mu"),
        ({"calibration": "random_k"}, "a control with random neighbours"),
        ({"seeds": [1, 7]}, "seeds has 7, expected some of 1, 2"),
        ({"ablation": "control"}, "mfcc_permuted, a control"),
        ({"ablation": "other"}, "speaker: xvector, which a bundle's runner cannot compute"),
        ({"ablation": "normalised"}, "ablation is normalised by mean, which a bundle.s runner does not do"),
        ({"ablation": "tuned"}, "ablation has finetune: vectors: tuned, others for each seed"),
    ],
)
def test_what_cannot_be_bundled_is_refused_while_planning(settings, match):
    speakers = {"plain": "none", "control": "mfcc_permuted", "other": "xvector"}
    ablations = {name: Ablation(encoder="e", speaker=speaker) for name, speaker in speakers.items()}
    ablations["normalised"] = Ablation(encoder="e", normalise="mean")
    ablations["tuned"] = Ablation(encoder="e", finetune={"vectors": "tuned"})
    given = {"ablation": "plain", "calibration": "none", "seeds": []} | settings
    with pytest.raises(DataError, match=match):
        check_bundles({"b": given}, ablations, read_methods(METHODS), [1, 2])


def test_a_bundle_has_what_does_the_same_with_enrolled_utterances():
    methods = {method.name: method for method in read_methods(METHODS)}
    names = [method.name for method in list_bundled(methods["mu_sigma"], list(methods.values()))]
    assert names == ["mu_sigma", "enrol_1", "enrol_5", "enrol_10", "labels_5"]
    assert list_bundled(methods["enrol_5"], list(methods.values())) == [methods["enrol_5"]]
    assert list_bundled(methods["mu_sigma_mfcc"], list(methods.values())) == [methods["mu_sigma_mfcc"]]
