"""Adaptive pre-training: what it writes, that it goes on where it was, and that nothing but its inputs decides it."""

import csv
import hashlib
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from made_adaptation import AUDIO, DROPOUTS, LABELS, PAPT, SPEAKERS, TAPT, TWO_PROCESSES, adapt, make_adaptable, run
from safetensors.torch import load_file
from transformers import Wav2Vec2FeatureExtractor

from ser.adaptation import adapt as adaptation
from ser.adaptation import pseudo_labels, speaker_embeddings
from ser.adaptation.clusters import read_clusters, read_clusters_past
from ser.adaptation.masked_prediction import MaskedPrediction
from ser.adaptation.neighbours import place_speakers
from ser.adaptation.prediction_head import load_head, read_vectors
from ser.adaptation.task import Pretraining
from ser.encoders import pretrained
from ser.encoders.past import Past, read_past
from ser.files import DataError, read_json, sha256, write_json
from ser.formats.encoder_folder import HEAD
from ser.optimisation import trainer


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_adaptable(tmp_path_factory.mktemp("corpus"))


def read_curve(out):
    with open(out / "training.csv", newline="") as file:
        return list(csv.DictReader(file))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_an_adapted_encoder_is_whole_and_says_what_it_came_from(corpus, tmp_path):
    weights = adapt(corpus, tmp_path / "out")
    base = load_file(corpus[0] / "base" / "model.safetensors")
    assert set(base) < set(weights) and not torch.equal(
        weights["feature_projection.projection.weight"], base["feature_projection.projection.weight"]
    )
    card = read_json(tmp_path / "out" / "card.json")
    assert card["adaptation"] == "tapt" and card["clusters"] == 6
    files = sorted((corpus[0] / "train").iterdir())
    heard = sorted(sha256(path)[:16] for path in files)
    name = hashlib.sha256("\n".join(heard).encode()).hexdigest()[:16]
    assert card["heard"] == [f"train{what}: {len(files)} audio files, {name}" for what in (" (clusters)", "")]
    assert (tmp_path / "out" / "heard.txt").read_text().split() == heard
    assert card["weights_sha256"] == sha256(tmp_path / "out" / "model.safetensors")
    assert "speaker_vectors" not in weights
    assert not (tmp_path / "checkpoint.pt").exists() and list((tmp_path / "tensorboard").iterdir())
    pretrained.prepare(str(tmp_path / "out"), None, tmp_path / "again")  # as any other encoder
    again = read_json(tmp_path / "again" / "card.json")
    assert (again["adaptation"], again["heard"], again["origin"]) == ("tapt", card["heard"], card)
    assert (tmp_path / "again" / "heard.txt").read_text().split() == heard


def test_what_the_base_and_the_clusters_heard_goes_on_the_card_too(corpus, tmp_path):
    """Before, an encoder that went on from one that had heard test audio said that it had heard `train` alone."""
    folder, shards = corpus
    run((folder, shards | {"train": shards["validation"]}), tmp_path / "first", TAPT | {"splits": ["test"]})
    card = tmp_path / "first" / "card.json"
    write_json(card, read_json(card) | {"trained_on": "made-up labels"})
    run(corpus, tmp_path / "second", base=tmp_path / "first")
    card = read_json(tmp_path / "second" / "card.json")
    told = card["heard"]
    assert card["trained_on"] == "made-up labels"
    assert [sentence.split(":")[0] for sentence in told] == ["train (clusters)", "test", "train"]
    heard = {sha256(path)[:16] for split in SPEAKERS for path in (folder / split).iterdir()}
    assert read_past(tmp_path / "second", "second").lines == heard
    common = {"options": LABELS, "audio": AUDIO, "device": "cpu", "threads": 1}
    given = [None, str(tmp_path / "first" / "adaptation.safetensors"), tmp_path / "clusters.safetensors"]
    pseudo_labels.make_clusters([], *given, **common)
    assert [sentence.split(":")[0] for sentence in read_clusters_past(given[2]).told] == ["train (clusters)", "test"]
    layer = [str(tmp_path / "second" / "card.json"), None, tmp_path / "clusters.safetensors"]
    options = LABELS | {"features": "layer"}
    pseudo_labels.make_clusters(shards["train"][0], *layer, **common | {"options": options})
    assert read_clusters_past(layer[2]).lines == heard


def test_the_curve_has_a_validation_loss_before_and_after_each_epoch_and_falls(corpus, tmp_path):
    adapt(corpus, tmp_path / "out", epochs=12)
    curve = read_curve(tmp_path / "out")
    validation = [row for row in curve if row["split"] == "validation"]
    assert [int(row["epoch"]) for row in validation] == list(range(13))
    training = [float(row["loss"]) for row in curve if row["split"] == "train"]
    assert np.mean(training[-5:]) < np.mean(training[:5])
    assert all(0 <= float(row["accuracy"]) <= 1 for row in curve)


def test_a_run_that_was_killed_goes_on_to_the_same_weights(corpus, tmp_path, monkeypatch):
    expected = adapt(corpus, tmp_path / "whole" / "out", PAPT)
    steps = [row["step"] for row in read_curve(tmp_path / "whole" / "out") if row["split"] == "train"]
    assert len(steps) > 4
    save = trainer.Trainer._save

    def save_and_die(run, step, *rest):
        save(run, step, *rest)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.Trainer, "_save", save_and_die)
        adapt(corpus, tmp_path / "killed" / "out", PAPT)
    assert not (tmp_path / "killed" / "out").exists()
    seen = []
    monkeypatch.setattr(trainer.Trainer, "_save", lambda run, step, *rest: seen.append(step))
    assert same(adapt(corpus, tmp_path / "killed" / "out", PAPT), expected)
    assert min(seen) > 4  # it did not begin anew
    assert read_curve(tmp_path / "killed" / "out") == read_curve(tmp_path / "whole" / "out")


def test_another_runs_checkpoint_and_a_damaged_one_are_not_resumed(corpus, tmp_path):
    expected = adapt(corpus, tmp_path / "one" / "out", seed=2)
    (tmp_path / "other").mkdir()
    for content in ({"identity": "another", "step": 3}, None):
        torch.save(content, tmp_path / "other" / "checkpoint.pt")
        if content is None:
            (tmp_path / "other" / "checkpoint.pt").write_bytes(b"\x80\x04 no checkpoint")
        AcceleratorState._reset_state(True)
        assert same(adapt(corpus, tmp_path / "other" / "out", seed=2), expected)
    (curves,) = (tmp_path / "other" / "tensorboard").iterdir()  # of the last run alone
    assert curves.name == "events.out.tfevents.000"  # a writer's own name has the machine's in it
    assert socket.gethostname().encode() not in curves.read_bytes()


def test_papt_has_a_vector_for_each_speaker_that_it_heard(corpus, tmp_path):
    weights = adapt(corpus, tmp_path / "out", PAPT)
    assert weights["speaker_vectors"].shape == (3, 16)
    assert weights["speaker_vectors"].abs().sum(1).min() > 0
    vectors = read_vectors(tmp_path / "out" / "adaptation.safetensors")
    assert sorted(vectors) == SPEAKERS["train"]
    card = read_json(tmp_path / "out" / "card.json")
    assert (card["position"], card["speakers"]) == ("last", 3)


@pytest.mark.parametrize("options", [TAPT, PAPT], ids=["tapt", "papt"])
@pytest.mark.parametrize("normalise", [True, False])
def test_audio_is_normalised_where_the_encoder_s_preprocessor_says_so(
    corpus, tmp_path, monkeypatch, options, normalise
):
    heard, forward = [], MaskedPrediction.forward

    def hear(model, waves, *rest, **others):
        heard.extend(waves.numpy().copy())
        return forward(model, waves, *rest, **others)

    monkeypatch.setattr(MaskedPrediction, "forward", hear)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalise)
    pretrained.save(pretrained.load(corpus[0] / "base")[0], extractor, tmp_path / "base", Past())
    run(corpus, tmp_path / "out", options, tmp_path / "base", epochs=1)
    spreads = np.array([wave.std() for wave in heard])
    assert len(spreads) > 10 and (np.allclose(spreads, 1, atol=1e-3) if normalise else (spreads < 0.5).all())
    assert read_json(tmp_path / "out" / "preprocessor_config.json")["do_normalize"] == normalise


def test_the_front_can_be_left_as_it_is(corpus, tmp_path):
    weights = adapt(corpus, tmp_path / "out", freeze_front=True)
    base = load_file(corpus[0] / "base" / "model.safetensors")
    front = [name for name in base if name.startswith("feature_extractor.")]
    assert front and all(torch.equal(weights[name], base[name]) for name in front)


def test_a_base_pre_trained_on_the_same_clusters_keeps_its_prediction_head(corpus, tmp_path):
    folder, shards = corpus
    first = adapt(corpus, tmp_path / "first")
    start = {}
    for name, base in {"kept": tmp_path / "first", "new": folder / "base"}.items():
        AcceleratorState._reset_state(True)
        model = MaskedPrediction(pretrained.load(base)[0], 6, code_width=8)
        centroids = read_clusters(folder / "clusters.safetensors")
        start[name] = load_head(model, base / HEAD, centroids), model.codes.detach().clone()
    assert start["kept"][0] and torch.equal(start["kept"][1], first["codes"])
    assert not start["new"][0]
    model = MaskedPrediction(pretrained.load(tmp_path / "first")[0], 6, code_width=8)
    assert not load_head(model, tmp_path / "first" / HEAD, centroids + 1)  # other clusters


def test_utterances_that_are_too_short_are_no_reason_to_stop_unless_all_are(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "SHORTEST", 1000)
    with pytest.raises(DataError, match="no utterance of train lasts"):
        adapt(corpus, tmp_path / "out")


def test_pseudo_labels_of_other_audio_are_refused(corpus, tmp_path):
    folder, shards = corpus
    text = (folder / "train.csv").read_text()
    changed = tmp_path / "train.csv"
    changed.write_text(text.replace(text.splitlines()[1].split(",")[3], "0" * 64))
    with pytest.raises(DataError, match="other audio"):
        adaptation._read_utterances([str(changed)], shards["train"][1])


@pytest.mark.long
def test_two_processes_train_as_one_with_twice_the_batches(corpus, tmp_path):
    folder, _ = corpus
    if not (folder / "calm").exists():  # without dropout, which each process draws for itself
        hubert, extractor = pretrained.load(folder / "base")
        for name in DROPOUTS:
            setattr(hubert.config, name, 0.0)
        pretrained.save(hubert, extractor, folder / "calm", Past())
    whole = adapt(corpus, tmp_path / "one" / "out", TAPT, "calm", accumulate=2)
    AcceleratorState._reset_state(True)
    # in a Python of its own: processes that are forked after torch's threads have started may wait for ever
    places = [str(Path(__file__).parents[i] / name) for i, name in ((0, ""), (1, ""), (2, "workflow_scripts"))]
    arguments = pickle.dumps((corpus, tmp_path / "two" / "out", TAPT, "calm")).hex()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    subprocess.run([sys.executable, "-c", TWO_PROCESSES, arguments], env=environment, check=True, timeout=300)
    halves = load_file(tmp_path / "two" / "out" / "model.safetensors")
    for name, tensor in halves.items():
        # sums in another order, through Adam's division by a small root: far below a step of 1e-3
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=2e-4, msg=name)


def test_gpus_that_are_not_there_are_missed_before_training(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "device_count", lambda: 0)
    with pytest.raises(DataError, match="device: cuda, but torch .* finds no CUDA device"):
        run(corpus, tmp_path / "out", device="cuda")
    monkeypatch.setattr(trainer, "device_count", lambda: 2)
    with pytest.raises(DataError, match="gpus is 3, but this job sees 2"):
        run(corpus, tmp_path / "out", device="auto", gpus=3)


def test_a_loss_that_is_not_finite_names_the_encoder_and_the_step_sizes(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(Pretraining, "summarise", lambda task, sums: [float("nan"), 0.0])
    message = (
        r"encoder 'tapt': adaptation: the loss is nan at step 0; lower learning_rate \(now 0.001\) or "
        r"head_learning_rate \(now 0.01\) in pretraining, or in the encoder's own pretraining$"
    )
    with pytest.raises(DataError, match=message):
        adapt(corpus, tmp_path / "tapt")


def test_a_corpus_of_less_than_one_step_is_trained_on_all_the_same(corpus, tmp_path):
    weights = adapt(corpus, tmp_path / "out", epochs=1, batch_seconds=60, accumulate=4)
    assert [row["split"] for row in read_curve(tmp_path / "out")] == ["validation", "train", "validation"]
    base = load_file(corpus[0] / "base" / "model.safetensors")
    assert not torch.equal(weights["encoder.layer_norm.weight"], base["encoder.layer_norm.weight"])


def test_the_schedule_rises_over_the_warm_up_and_falls_to_nothing():
    rates = [trainer.schedule_rate(step, 100, 0.05) for step in range(101)]
    assert rates[0] == pytest.approx(0.2) and max(rates) == rates[4] == 1 and rates[100] == 0
    assert all(np.diff(rates[:5]) > 0) and all(np.diff(rates[4:]) < 0)


def test_a_shards_vectors_are_its_speakers_own_or_their_neighbours_mean(corpus, tmp_path):
    folder, _ = corpus
    weights = adapt(corpus, tmp_path / "out", PAPT)
    own = dict(zip(SPEAKERS["train"], weights["speaker_vectors"].numpy(), strict=True))
    head, means = str(tmp_path / "out" / "adaptation.safetensors"), [str(folder / "train-means.parquet")]
    speaker_embeddings.write_shard(str(folder / "train.csv"), head, [], None, 2, tmp_path / "train.json")
    heard = read_json(tmp_path / "train.json")
    assert sorted(heard) == SPEAKERS["train"]
    np.testing.assert_allclose(heard["b"], own["b"], atol=1e-7)
    embeddings = str(folder / "validation.tfrecord")
    speaker_embeddings.write_shard(str(folder / "validation.csv"), head, means, embeddings, 2, tmp_path / "v.json")
    placed = read_json(tmp_path / "v.json")
    # v, (0, 1, 3), is nearest to a, (0, 2, 3), then b, (1, 2, 2); w, (1, 1, 2), to b, then a or c, by the cosines
    cosine = {
        name: np.dot(v, [0, 1, 3]) / np.linalg.norm(v)
        for name, v in {"a": (0, 2, 3), "b": (1, 2, 2), "c": (2, 2, 1)}.items()
    }
    nearest = sorted(cosine, key=cosine.get)[-2:]
    assert sorted(placed) == SPEAKERS["validation"] and sorted(nearest) == ["a", "b"]
    np.testing.assert_allclose(placed["v"], (own["a"] + own["b"]) / 2, atol=1e-6)


def test_without_a_known_speaker_nobody_can_be_placed():
    with pytest.raises(DataError, match="none of the speakers"):
        place_speakers({"new": np.ones(3)}, ["heard"], 2)
