"""Adaptive pre-training: what it writes, that it goes on where it was, and that nothing but its inputs decides it."""

import csv
import hashlib
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState
from made_corpus import write_utterance
from safetensors.torch import load_file
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from ser.adaptation import adapt as adaptation
from ser.adaptation import pseudo_labels, speaker_embeddings
from ser.adaptation.clusters import read_clusters, read_clusters_past, read_frame_labels
from ser.adaptation.masked_prediction import MaskedPrediction
from ser.adaptation.neighbours import place_speakers
from ser.adaptation.prediction_head import load_head, read_vectors
from ser.encoders import pretrained, speaker_summaries
from ser.encoders.past import Past, read_past
from ser.files import DataError, read_json, sha256
from ser.formats.csv_files import format_rows
from ser.formats.encoder_folder import HEAD
from ser.formats.manifest import Utterance
from ser.formats.tfrecord import Record, write
from ser.optimisation import trainer

AUDIO = {"min_seconds": 0.1, "max_seconds": 60, "silence_db": -80}
LABELS = {"features": "mfcc", "layer": -1, "clusters": 6, "frames": 500, "seed": 1}
SETTINGS = {
    **{"epochs": 2, "learning_rate": 1e-3, "head_learning_rate": 1e-2, "warmup": 0.1, "batch_seconds": 2},
    **{"crop_seconds": 1, "accumulate": 1, "clip": 10, "freeze_front": False, "mask_probability": 0.08},
    **{
        "mask_length": 10,
        "code_width": 8,
        "temperature": 0.1,
        "feature_penalty": 0,
        "precision": "float32",
        "seed": 1,
        "threads": 1,
    },
    **{"gpus": 1, "checkpoint_steps": 2},
}
TAPT = {"adaptation": "tapt", "position": "last", "splits": ["train"]}
PAPT = TAPT | {"adaptation": "papt"}
DROPOUTS = ["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"]
TWO_PROCESSES = """
import pickle, sys
from test_adaptation import run, trainer
trainer.device_count, accelerator = lambda: 2, trainer.Accelerator
trainer.Accelerator = lambda cpu, **options: accelerator(cpu=True, **options)  # two CPU processes for two GPUs
run(*pickle.loads(bytes.fromhex(sys.argv[1])), device="auto", gpus=2)
"""
SPEAKERS = {"train": ["a", "b", "c"], "validation": ["v", "w"]}


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Manifests, clusters, pseudo-labels and speaker means of eleven utterances, and a base encoder."""
    folder = tmp_path_factory.mktemp("corpus")
    torch.manual_seed(0)
    config = HubertConfig(
        conv_dim=[8] * 7,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **dict.fromkeys(DROPOUTS, 0.1),
    )
    pretrained.save(HubertModel(config), Wav2Vec2FeatureExtractor(do_normalize=True), folder / "base", Past())
    shards = {}
    for split, speakers in SPEAKERS.items():
        utterances, records = [], []
        for number, speaker in enumerate(speakers):
            for u in range(3 if split == "train" else 1):
                path = folder / split / f"{speaker}{u}.wav"
                write_utterance(path, (3 + u, 4, 4), number / 3, seed=10 * number + u, seconds=0.8 + 0.3 * u)
                utterances.append(Utterance(f"{speaker}{u}", str(path), speaker, sha256(path)))
                vector = np.array([[number, 1 + u, 3 - number]], np.float32)
                records.append(Record(f"{speaker}{u}", speaker, sha256(path), 1, vector))
        manifest = folder / f"{split}.csv"
        manifest.write_text(format_rows(Utterance._fields, utterances))
        shards[split] = ([str(manifest)], [str(folder / f"{split}.parquet")])
        write(folder / f"{split}.tfrecord", records)
        means = str(folder / f"{split}-means.parquet")
        speaker_summaries.summarise_embeddings([str(folder / f"{split}.tfrecord")], means)
    common = {"options": LABELS, "audio": AUDIO, "device": "cpu", "threads": 1}
    pseudo_labels.make_clusters(shards["train"][0], None, None, folder / "clusters.safetensors", **common)
    for manifests, labels in shards.values():
        pseudo_labels.label_shard(manifests[0], folder / "clusters.safetensors", None, labels[0], **common)
    return folder, shards


def run(corpus, out, options=TAPT, base="base", device="cpu", **settings):
    folder, shards = corpus
    adaptation.adapt(
        adaptation.Sources(
            base=str(folder / base),
            revision=None,
            shards=shards,
            clusters=str(folder / "clusters.safetensors"),
            speaker_means=[str(folder / f"{split}-means.parquet") for split in SPEAKERS],
        ),
        adaptation.Recipe(options=options, settings=SETTINGS | settings, audio=AUDIO, fingerprint=""),
        adaptation.Places(out, out.parent / "checkpoint.pt", out.parent / "tensorboard"),
        device,
    )


def adapt(corpus, out, *options, **settings):
    """`run`, and the weights that it wrote."""
    run(corpus, out, *options, **settings)
    return load_file(out / "model.safetensors") | load_file(out / "adaptation.safetensors")


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
    run(corpus, tmp_path / "second", base=tmp_path / "first")
    told = read_json(tmp_path / "second" / "card.json")["heard"]
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
    changed.write_text(text.replace(text.splitlines()[1].split(",")[-1], "0" * 64))
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


def test_labels_are_the_nearest_clusters_of_the_frames_that_hubert_makes(corpus):
    folder, shards = corpus
    centroids = read_clusters(folder / "clusters.safetensors")
    assert centroids.shape == (6, 39)
    rows = read_frame_labels(shards["train"][1][0])
    assert [row[0] for row in rows] == [f"{s}{u}" for s in SPEAKERS["train"] for u in range(3)]
    for utterance_id, speaker, _, labels in rows:
        samples, _ = librosa.load(folder / "train" / f"{utterance_id}.wav", sr=16_000)
        assert utterance_id.startswith(speaker) and len(labels) == (len(samples) - 400) // 320 + 1
        frames = pseudo_labels.mfcc_frames(samples)
        distances = np.linalg.norm(frames[:, None] - centroids[None], axis=2)
        chosen = distances[np.arange(len(labels)), labels]
        np.testing.assert_allclose(chosen, distances.min(1), rtol=1e-4)


def test_a_clusters_space_is_the_mfccs_of_the_normalised_signal():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16_000).astype(np.float32)
    frames = pseudo_labels.mfcc_frames(samples)
    np.testing.assert_allclose(pseudo_labels.mfcc_frames(0.01 * samples + 0.2), frames, atol=0.05)
    middle = frames[10:-10, 13:26]  # first differences: the slope of a line through nine frames
    slope = np.stack(
        [np.polyfit(np.arange(-4, 5), frames[t - 4 : t + 5, :13], 1)[0] for t in range(10, len(frames) - 10)]
    )
    np.testing.assert_allclose(middle, slope, atol=1e-3)


def test_clusters_of_a_layer_come_from_that_layer(corpus, tmp_path):
    folder, shards = corpus
    options = LABELS | {"features": "layer", "layer": 1, "clusters": 4}
    common = {"options": options, "audio": AUDIO, "device": "cpu", "threads": 1}
    card = str(folder / "base" / "card.json")
    pseudo_labels.make_clusters(shards["train"][0], card, None, tmp_path / "c.safetensors", **common)
    pseudo_labels.label_shard(
        shards["validation"][0][0], tmp_path / "c.safetensors", card, tmp_path / "l.parquet", **common
    )
    centroids = read_clusters(tmp_path / "c.safetensors")
    assert centroids.shape == (4, 16)
    model, extractor = pretrained.load(folder / "base")
    samples, _ = soundfile.read(folder / "validation" / "v0.wav", dtype="float32")
    waves = extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        frames = model(waves, output_hidden_states=True).hidden_states[1][0].numpy()
    distances = np.linalg.norm(frames[:, None] - centroids[None], axis=2)
    labels = pq.read_table(tmp_path / "l.parquet")["labels"][0].as_py()
    assert np.mean(distances.argmin(1) == labels) > 0.98  # a frame between two clusters may fall to either
    with pytest.raises(DataError, match="layer 9: the encoder"):
        pseudo_labels.open_features(card, options | {"layer": 9}, "cpu", 1)


def test_given_clusters_are_taken_as_they_are_and_bad_ones_named(corpus, tmp_path):
    folder, _ = corpus
    options = LABELS | {"centroids": "somewhere"}
    common = {"options": options, "audio": AUDIO, "device": "cpu", "threads": 1}
    pseudo_labels.make_clusters([], None, str(folder / "clusters.safetensors"), tmp_path / "c.safetensors", **common)
    expected = read_clusters(folder / "clusters.safetensors")
    assert np.array_equal(read_clusters(tmp_path / "c.safetensors"), expected)
    with pytest.raises(DataError, match="model.safetensors: holds no clusters"):
        read_clusters(folder / "base" / "model.safetensors")
    with pytest.raises(DataError, match="too few for 6000 clusters"):
        pseudo_labels._fit(np.zeros((10, 39), np.float32), options | {"clusters": 6000})
