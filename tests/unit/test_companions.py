"""What heads are told by a speaker's other utterances: normalisation by speaker, and attention."""

from dataclasses import replace

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax
from test_training import LEARNING, TARGETS, ablation, make_split, run_training

from ser.files import DataError
from ser.formats import tfrecord
from ser.formats.tfrecord import Record
from ser.heads.companions import Companions, draw_others, fix_others, order_utterances
from ser.heads.features import open_features, read_shape
from ser.heads.inputs import read_training_labels
from ser.heads.model import build_head, find_layer
from ser.heads.prediction import load_heads, predict_split
from ser.heads.saving import save_model
from ser.heads.training_data import read_split
from ser.statistics.ccc import compute_ccc
from ser.statistics.permutation import draw_donors


def read_records(split):
    return [record for path in split.embeddings for record in tfrecord.read(path)]


def group(records):
    speakers = {}
    for record in records:
        speakers.setdefault(record.speaker_id, []).append(record)
    return speakers


def list_known(record, records, k):
    """The first k of the speaker's utterances in the order of enrolment, without the record's own."""
    own = {r.utterance_id: r for r in records if r.speaker_id == record.speaker_id}
    return [own[name] for name in order_utterances(list(own)) if name != record.utterance_id][:k]


@pytest.mark.parametrize("permuted", [None, True])
@pytest.mark.parametrize("layer", ["weighted", 1])
@pytest.mark.parametrize("normalise", ["speaker_mean", "speaker"])
def test_all_utterances_of_a_speaker_normalise_each(tmp_path, normalise, layer, permuted):
    split = make_split(tmp_path, "train", 3, 0)
    records = read_records(split)
    companions = Companions.read(split.embeddings, ablation(normalise=normalise, layer=layer, permuted=permuted))
    donors = draw_donors(group(records)) if permuted else {s: s for s in group(records)}
    for record in records:
        own = np.stack([r.embedding for r in group(records)[donors[record.speaker_id]]]).astype(float)
        expected = (record.embedding - own.mean(0)) / (own.std(0) if normalise == "speaker" else 1)
        expected = expected if layer == "weighted" else expected[layer]
        np.testing.assert_allclose(companions.take(record), expected, atol=4e-3)  # float16, as stored


def test_enrolled_utterances_normalise_those_that_are_not_among_them(tmp_path):
    split = make_split(tmp_path, "train", 2, 0)
    records = read_records(split)
    companions = Companions.read(split.embeddings, ablation(normalise="speaker", enrolment=5))
    for record in records:
        known = np.stack([r.embedding for r in list_known(record, records, 5)]).astype(float)
        expected = (record.embedding - known.mean(0)) / known.std(0)
        np.testing.assert_allclose(companions.take(record), expected, rtol=2e-3, atol=4e-3)
    # One changed utterance that is not enrolled changes itself alone.
    last = order_utterances([r.utterance_id for r in records[:12]])[-1]
    changed = [Record(r.utterance_id, r.speaker_id, "", 1, r.embedding + (r.utterance_id == last)) for r in records]
    tfrecord.write(tmp_path / "changed.tfrecord", changed)
    others = Companions.read([str(tmp_path / "changed.tfrecord")], companions.ablation)
    moved = [not np.array_equal(others.take(b), companions.take(a)) for a, b in zip(records, changed, strict=True)]
    assert [r.utterance_id for r, m in zip(records, moved, strict=True) if m] == [last]


def test_a_speaker_of_one_utterance_and_a_constant_feature_stay_finite(tmp_path):
    x = np.ones((2, 3), np.float16)
    tfrecord.write(
        tmp_path / "r.tfrecord", [Record("u", "s", "", 1, x), Record("w", "t", "", 1, x), Record("v", "t", "", 1, x)]
    )
    for options in ({}, {"enrolment": 5}):
        companions = Companions.read([str(tmp_path / "r.tfrecord")], ablation(normalise="speaker", **options))
        for record in tfrecord.read(tmp_path / "r.tfrecord"):
            np.testing.assert_array_equal(companions.take(record), np.zeros((2, 3)))


def test_frames_are_normalised_by_all_frames_of_the_speaker(tmp_path):
    split = make_split(tmp_path, "train", 2, 0, frames=True)
    records = read_records(split)
    companions = Companions.read(split.embeddings, ablation(head="transformer", normalise="speaker"))
    for record in records:
        own = np.concatenate([r.embedding for r in group(records)[record.speaker_id]]).astype(float)
        expected = (record.embedding - own.mean(0)) / own.std(0)
        np.testing.assert_allclose(companions.take(record), expected, atol=4e-3)


def test_streamed_features_are_normalised_as_those_in_memory(tmp_path):
    split = make_split(tmp_path, "train", 2, 0)
    settings, shape = ablation(normalise="speaker", enrolment=5), read_shape(split.embeddings)
    kept = read_split(split, settings, shape, None, TARGETS, None, keep=True)
    companions, labels = Companions.read(split.embeddings, settings), read_training_labels(split.labels, TARGETS)
    streamed = open_features(split.embeddings, settings, shape, None, labels, None, companions)
    streamed = np.stack([item["features"].numpy() for item in streamed])
    np.testing.assert_allclose(kept.columns["features"].numpy(), streamed, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("permuted", [False, True])
def test_others_are_others(permuted):
    speakers = [*"aaaa", *"bb", "c", *"ddddddd"]
    ids = [f"u{i}" for i in range(len(speakers))]
    donors = draw_donors(set(speakers)) if permuted else {s: s for s in speakers}
    drawn = [draw_others(ids, speakers, 3, permuted, np.random.default_rng(seed)) for seed in range(20)]
    for others, known in [*drawn, fix_others(ids, speakers, 3, permuted)]:
        for row, speaker in enumerate(speakers):
            found = others[row, known[row] == 1]
            count = sum(other == donors[speaker] for other in speakers)
            assert len(found) == min(3, count - (donors[speaker] == speaker)) == len(set(found.tolist()))
            assert row not in found and {speakers[i] for i in found} <= {donors[speaker]}
    assert len({others.tobytes() for others, _ in drawn}) == 20
    counts = np.bincount(np.concatenate([others[0] for others, _ in drawn]), minlength=4)
    assert permuted or (counts[1:4].min() > 0 and counts[0] == 0)


def test_attention_is_its_definition_and_counts_its_parameters():
    rng, width, k = np.random.default_rng(0), 6, 3
    settings = ablation(fusion="attention", attended=k)
    options = {"n_layers": 2, "width": width, "label_mean": [0.0], "label_sd": [1.0]}
    head = build_head(settings, **options)
    attend = find_layer(head, "attend")
    plain = build_head(ablation(), **options)
    assert head.count_params() - plain.count_params() == 2 * width * 64 + width * width
    assert not attend.value.numpy().any()  # it starts as the baseline
    for variable in attend.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    item = {"features": rng.normal(size=(4, 2, width)), "others": rng.normal(size=(4, k, 2, width))}
    item["known"] = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]])
    x, others = item["features"].mean(1), item["others"].mean(2)  # layers mixed alike, features not standardised
    query, key, value = (getattr(attend, name).numpy() for name in ("query", "key", "value"))
    scores = np.einsum("bd,bkd->bk", x @ query, others @ key) / 8
    shares = softmax(np.where(item["known"] == 1, scores, -np.inf)[[0, 1, 3]], axis=1)
    expected = x.copy()
    expected[[0, 1, 3]] += np.einsum("bk,bkd->bd", shares, others[[0, 1, 3]]) @ value
    item = {name: values.astype(np.float32) for name, values in item.items()}
    np.testing.assert_allclose(head(item)["fused"], expected, rtol=1e-4, atol=1e-4)


def read_predictions(out, split="validation"):
    table = pq.read_table(out / f"predictions-1-{split}.parquet")
    return {name: np.array(table[name]) for name in ("utterance_id", "speaker_id", *TARGETS)}


NOTHING = {"fusion": "attention", "attended": 0}


def test_attention_to_no_utterance_is_the_baseline(tmp_path):
    """The same head from the same seed, and nothing beside its features."""
    split, heads = make_split(tmp_path, "train", 2, 0), []
    for settings in (ablation(), ablation(**NOTHING)):
        keras.utils.set_random_seed(1)
        heads.append(build_head(settings, n_layers=3, width=8, label_mean=[0.0], label_sd=[1.0]))
    assert heads[0].get_config() == heads[1].get_config()
    assert all(np.array_equal(a, b) for a, b in zip(*(head.get_weights() for head in heads), strict=True))
    assert Companions.read(split.embeddings, ablation(**NOTHING)).few == {}


@pytest.mark.long
def test_attention_to_no_utterance_learns_the_baseline_exactly(tmp_path):
    train, validation = make_split(tmp_path, "train", 6, 0), make_split(tmp_path, "validation", 2, 1)
    for name, options in {"a": {}, "b": NOTHING}.items():
        run_training(train, validation, tmp_path / name, ablation(**options))
    for name in ("predictions-1-train", "predictions-1-validation", "speaker_vectors-1-validation"):
        assert (tmp_path / "a" / f"{name}.parquet").read_bytes() == (tmp_path / "b" / f"{name}.parquet").read_bytes()


def make_offsets(folder, split, n_speakers, seed):
    """Labels that are linear in the features, but for an offset of each speaker, as large as the labels' spread."""
    rng, made = np.random.default_rng(seed), make_split(folder, split, n_speakers, seed)
    directions = np.random.default_rng(99).standard_normal((len(TARGETS), 8))  # the labels' own, in `make_split`
    for path in made.embeddings:
        offset = 2 * rng.standard_normal(len(TARGETS)) @ directions
        records = list(tfrecord.read(path))
        moved = [(record.embedding + offset).astype(np.float16) for record in records]
        tfrecord.write(path, [replace(record, embedding=x) for record, x in zip(records, moved, strict=True)])
    return made


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [{"normalise": "speaker"}, {"normalise": "speaker_mean", "enrolment": 5}, {"fusion": "attention", "attended": 5}],
)
def test_each_way_learns_where_speakers_differ_by_an_offset(tmp_path, options):
    train, validation = make_offsets(tmp_path, "train", 12, 0), make_offsets(tmp_path, "validation", 6, 1)
    scores = {}
    for name, settings in {"plain": {}, "own": options, "permuted": options | {"permuted": True}}.items():
        run_training(train, validation, tmp_path / name, ablation(**settings, layer=1, training=LEARNING))
        labels = read_training_labels(validation.labels, TARGETS)
        predicted = read_predictions(tmp_path / name)
        place = {utterance: i for i, utterance in enumerate(labels.utterance_ids)}
        truth = labels.values[[place[utterance] for utterance in predicted["utterance_id"]]]
        scores[name] = np.mean([compute_ccc(truth[:, i], predicted[target]) for i, target in enumerate(TARGETS)])
    assert scores["own"] > max(scores["plain"], scores["permuted"]) + 0.02


def test_a_speaker_is_predicted_the_same_whoever_else_is_in_the_split(tmp_path):
    split, settings = make_split(tmp_path, "test", 3, 1), ablation(normalise="speaker", fusion="attention", attended=3)
    head = build_head(settings, n_layers=3, width=8, label_mean=[4.0, 4.0], label_sd=[2.0, 2.0])
    value = find_layer(head, "attend").value
    value.assign(np.random.default_rng(0).normal(size=value.shape))
    save_model(tmp_path / "model.keras", head)
    heads, found = load_heads({1: str(tmp_path / "model.keras")}), {}
    for name, shards in {"together": split.embeddings, "alone": split.embeddings[1:2]}.items():
        predict_split(heads, settings, shards, [], TARGETS, str(tmp_path / f"{name}-{{kind}}-{{seed}}.parquet"))
        table = pq.read_table(tmp_path / f"{name}-predictions-1.parquet")
        found[name] = dict(zip(table["utterance_id"].to_pylist(), table[TARGETS[0]].to_pylist(), strict=True))
    assert len(found["alone"]) == 12 and np.std(list(found["alone"].values())) > 0.01
    for utterance, value in found["alone"].items():
        assert value == pytest.approx(found["together"][utterance], abs=1e-5)


def test_attention_over_more_than_memory_holds_is_refused(tmp_path):
    train, validation = make_split(tmp_path, "train", 3, 0), make_split(tmp_path, "validation", 2, 1)
    with pytest.raises(DataError, match="attention draws other utterances from all of a split.*training_memory_gb"):
        run_training(train, validation, tmp_path, ablation(fusion="attention", attended=2), memory_bytes=10)
