"""Clusters of frames, and the labels of frames that follow from them."""

import librosa
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from made_adaptation import AUDIO, LABELS, SPEAKERS, make_adaptable

from ser.adaptation import pseudo_labels
from ser.adaptation.clusters import read_clusters, read_frame_labels
from ser.encoders import pretrained
from ser.files import DataError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_adaptable(tmp_path_factory.mktemp("corpus"))


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
