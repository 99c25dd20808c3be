import csv
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ser.config.ablation import Ablation
from ser.files import DataError, write_json
from ser.formats import tfrecord
from ser.formats.curves import clear_curves, rename_curves
from ser.heads.features import batch, open_features, read_shape
from ser.heads.inputs import read_speakers, read_training_labels
from ser.heads.numerics import fix_numerics
from ser.heads.prediction import load_heads, predict_split
from ser.heads.training import train_ablation
from ser.heads.training_data import Split
from ser.statistics.ccc import compute_ccc

fix_numerics(1)  # as a job does, before TensorFlow starts

TARGETS = ["valence", "arousal"]
TRAINING = {
    "loss": "ccc", "epochs": 2, "patience": 2, "batch_size": 16, "learning_rate": 0.01, "dropout": 0.1, "threads": 1
}  # fmt: skip
LEARNING = TRAINING | {"epochs": 40, "patience": 10}
ROWS, WIDTH = 3, 8


def ablation(**changes):
    settings = {"layer": "weighted", "units": [16, 8], "training": TRAINING}
    if changes.get("head") == "transformer":
        units = {"width": 8, "layers": 1, "attention_heads": 2, "feed_forward": 8, "max_frames": 100}
        settings |= {"layer": None, "units": units}
    return Ablation("e", **settings | changes)


def make_split(folder, split, n_speakers, seed, frames=False):
    """Embeddings in which the labels are linear, with noise; one shard a speaker."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).standard_normal((len(TARGETS), WIDTH))
    paths, speakers, table = [], [], {key: [] for key in ("utterance_id", "speaker_id", *TARGETS)}
    for number in range(n_speakers):
        records, speaker = [], f"{split}/{number} é"
        for utterance in range(12):
            labels = rng.uniform(1, 7, len(TARGETS))
            n_frames = int(rng.integers(4, 9))
            x = (labels - 4) @ directions + 0.3 * rng.standard_normal((n_frames if frames else ROWS, WIDTH))
            records.append(tfrecord.Record(f"{speaker}-{utterance}", speaker, "0", n_frames, x.astype(np.float16)))
            for key, value in zip(table, (records[-1].utterance_id, speaker, *labels), strict=True):
                table[key].append(value)
        paths.append(str(folder / f"{split}-{number}.tfrecord"))
        tfrecord.write(paths[-1], records)
        speakers.append(str(folder / f"{split}-{number}.json"))
        write_json(speakers[-1], {speaker: {"mfcc": rng.standard_normal(13).tolist(), "n_utterances": 12}})
    labels_path = str(folder / f"{split}.parquet")
    pq.write_table(pa.table(table), labels_path)
    return Split(paths, speakers, labels_path)


def run(folder, out, settings, seeds=(1, 2), memory_bytes=1e9, frames=False):
    folder.mkdir(exist_ok=True)
    train = make_split(folder, "train", 10, 0, frames)
    validation = make_split(folder, "validation", 2, 1, frames)
    run_training(train, validation, out, settings, seeds, memory_bytes)
    return train, validation


def run_training(train, validation, out, settings, seeds=(1,), memory_bytes=1e9, tensorboard=None):
    train_ablation(
        settings,
        seeds=list(seeds),
        targets=TARGETS,
        train=train,
        validation=validation,
        folder=str(out / "models"),
        results=str(out / "{kind}-{seed}-{split}.parquet"),
        memory_bytes=memory_bytes,
        tensorboard=tensorboard,
    )


def read(path):
    return pq.read_table(path).to_pydict()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layer": -1, "speaker": "mfcc", "fusion": "sum"},
        pytest.param({"outputs": "separate", "speaker": "mfcc", "fusion": "concat"}, marks=pytest.mark.long),
        pytest.param({"head": "transformer", "speaker": "mfcc_permuted", "fusion": "film"}, marks=pytest.mark.long),
        {"training": LEARNING | {"loss": "mse"}},
    ],
    ids=["weighted layers", "one layer, sum", "separate, concat", "transformer, film", "mse"],
)
def test_learns_what_is_there(tmp_path, changes):
    """Labels are linear in the features: a validation CCC over 0.8 is easy, one by chance would be near 0.

    The speaker vectors are noise here, of which ten speakers can be learned by heart: they may cost some.
    """
    settings = ablation(**{"training": LEARNING} | changes)
    _, validation = run(tmp_path / "data", tmp_path, settings, frames=settings.reads_frames)
    labels = read(validation.labels)
    for seed in (1, 2):
        predicted = read(tmp_path / f"predictions-{seed}-validation.parquet")
        assert list(predicted) == ["utterance_id", "speaker_id", *TARGETS]
        assert predicted["utterance_id"] == sorted(labels["utterance_id"])
        place = {utterance: i for i, utterance in enumerate(labels["utterance_id"])}
        with open(tmp_path / "models" / f"seed-{seed}" / "history.csv", newline="") as file:
            history = list(csv.DictReader(file))
        for target in TARGETS:
            truth = [labels[target][place[utterance]] for utterance in predicted["utterance_id"]]
            score = compute_ccc(truth, predicted[target])
            assert score > (0.8 if not settings.reads_speakers else 0.5)
            best = [row for row in history if row["target"] == target and row["best"] == "1"][-1]
            # the model that was kept is the one of the best epoch (six decimals in the history)
            assert float(best["validation_ccc"]) == pytest.approx(score, abs=2e-6)


def test_a_saved_model_predicts_as_training_did(tmp_path):
    settings = ablation(outputs="separate", speaker="mfcc", fusion="sum")
    _, validation = run(
        tmp_path / "data", tmp_path, settings, seeds=(1, 2**32 - 1)
    )  # the largest that a config can have
    heads = load_heads({1: str(tmp_path / "models" / "seed-1" / "model.keras")})
    predict_split(
        heads, settings, validation.embeddings, validation.speakers, TARGETS, str(tmp_path / "again-{kind}-{seed}")
    )
    for kind in ("predictions", "speaker_vectors", "enrolment_vectors"):
        again = pq.read_table(tmp_path / f"again-{kind}-1")
        assert again.equals(pq.read_table(tmp_path / f"{kind}-1-validation.parquet"))


def test_speaker_vectors_are_means_of_fused_vectors(tmp_path):
    settings = ablation(speaker="mfcc", fusion="sum")
    _, validation = run(tmp_path / "data", tmp_path, settings)
    model = keras.saving.load_model(tmp_path / "models" / "seed-2" / "model.keras", compile=False)
    fused = {}
    for path, speakers in zip(validation.embeddings, validation.speakers, strict=True):
        (vector,) = read_speakers([speakers]).values()
        for record in tfrecord.read(path):
            item = {"features": record.embedding[None].astype(np.float32), "speaker": vector[None]}
            fused[record.utterance_id] = (record.speaker_id, np.asarray(model(item)["fused"])[0])
    rows = read(tmp_path / "speaker_vectors-2-validation.parquet")
    for speaker, vector in zip(rows["speaker_id"], rows["vector"], strict=True):
        expected = np.mean([v for s, v in fused.values() if s == speaker], axis=0)
        np.testing.assert_allclose(vector, expected, atol=1e-5)  # float32 sums in another order
    enrolled = read(tmp_path / "enrolment_vectors-2-validation.parquet")
    for utterance, vector in zip(enrolled["utterance_id"], enrolled["vector"], strict=True):
        np.testing.assert_allclose(vector, fused[utterance][1], rtol=1e-3, atol=1e-3)  # stored as float16
    assert enrolled["utterance_id"] == read(tmp_path / "predictions-2-validation.parquet")["utterance_id"]
    assert not (tmp_path / "enrolment_vectors-2-train.parquet").exists()  # training speakers are never enrolled


@pytest.mark.long
def test_results_depend_on_the_seed_alone(tmp_path):
    """Twice the same, and with other seeds beside it: the same to the last bit and byte."""
    outs = {name: tmp_path / name for name in ("a", "b", "c")}
    for out in outs.values():
        out.mkdir()
    run(tmp_path / "data", outs["a"], ablation(speaker="mfcc", fusion="sum"))
    run(tmp_path / "data", outs["b"], ablation(speaker="mfcc", fusion="sum"))
    run(tmp_path / "data", outs["c"], ablation(speaker="mfcc", fusion="sum"), seeds=(7, 2))
    for kind in ("predictions", "speaker_vectors"):
        a, b, c = (pq.read_table(out / f"{kind}-2-validation.parquet") for out in outs.values())
        assert a.equals(b) and a.equals(c)
    files = [out / "models" / "seed-2" / "model.keras" for out in outs.values()]
    assert files[0].read_bytes() == files[1].read_bytes()
    first = pq.read_table(outs["a"] / "predictions-1-validation.parquet")
    assert not first.equals(pq.read_table(outs["a"] / "predictions-2-validation.parquet")), "seeds must differ"


@pytest.mark.parametrize("head", ["mlp", "transformer"])
def test_streaming_from_disk_learns_too(tmp_path, head):
    """The batches are others than in memory, what can be learned is not; few epochs, so a lower bar."""
    settings = ablation(head=head, training=TRAINING | {"epochs": 12, "learning_rate": 0.03})
    _, validation = run(tmp_path / "data", tmp_path, settings, (1,), memory_bytes=1.0, frames=head == "transformer")
    labels, predicted = read(validation.labels), read(tmp_path / "predictions-1-validation.parquet")
    place = {utterance: i for i, utterance in enumerate(labels["utterance_id"])}
    for target in TARGETS:
        truth = [labels[target][place[utterance]] for utterance in predicted["utterance_id"]]
        assert compute_ccc(truth, predicted[target]) > 0.5


def test_features_carry_the_right_speaker_and_labels(tmp_path):
    split = make_split(tmp_path, "train", 3, 0)
    labels, speakers = read_training_labels(split.labels, TARGETS), read_speakers(split.speakers)
    settings = ablation(speaker="mfcc", fusion="sum", layer=1)
    items = list(open_features(split.embeddings, settings, read_shape(split.embeddings), speakers, labels))
    assert len(items) == 36
    records = {record.utterance_id: record for path in split.embeddings for record in tfrecord.read(path)}
    for item in items:
        record = records[item["utterance_id"].numpy().decode()]
        np.testing.assert_array_equal(item["features"], record.embedding[1].astype(np.float32))
        np.testing.assert_array_equal(item["speaker"], speakers[record.speaker_id])
        row = labels.utterance_ids.index(record.utterance_id)
        np.testing.assert_allclose(item["labels"], labels.values[row], rtol=1e-6)  # float64 to float32


def test_utterances_without_labels_are_not_trained_on(tmp_path):
    split = make_split(tmp_path, "train", 2, 0)
    table = pq.read_table(split.labels)
    pq.write_table(table.slice(0, 20), split.labels)
    labels = read_training_labels(split.labels, TARGETS)
    items = open_features(split.embeddings, ablation(), read_shape(split.embeddings), None, labels)
    assert len(list(items)) == 20


def test_frames_are_padded_to_the_longest_of_a_batch(tmp_path):
    split = make_split(tmp_path, "train", 1, 0, frames=True)
    labels = read_training_labels(split.labels, TARGETS)
    items = open_features(split.embeddings, ablation(head="transformer"), read_shape(split.embeddings), None, labels)
    (item,) = batch(items, 100)
    lengths = item["n_frames"].numpy()[:, 0]
    assert item["features"].shape == (12, lengths.max(), WIDTH)
    shortest = int(lengths.argmin())
    assert not item["features"].numpy()[shortest, lengths[shortest] :].any()


def test_a_layer_that_is_not_there_is_named(tmp_path):
    split = make_split(tmp_path, "train", 1, 0)
    labels = read_training_labels(split.labels, TARGETS)
    with pytest.raises(DataError, match="layer 3 of the ablation is not one of encoder 'e': it has 0 to 2"):
        open_features(split.embeddings, ablation(layer=3), read_shape(split.embeddings), None, labels)


def test_a_split_of_which_all_was_set_aside(tmp_path):
    """It is predicted as no rows, with the columns and types of any other; it cannot be trained on."""
    run(tmp_path / "data", tmp_path, ablation(), seeds=(1,))
    heads = load_heads({1: str(tmp_path / "models" / "seed-1" / "model.keras")})
    empty = str(tmp_path / "empty.tfrecord")
    tfrecord.write(empty, [])
    predict_split(heads, ablation(), [empty], [], TARGETS, str(tmp_path / "empty-{kind}-{seed}"))
    for kind in ("predictions", "speaker_vectors", "enrolment_vectors"):
        table = pq.read_table(tmp_path / f"empty-{kind}-1")
        assert table.num_rows == 0 and table.schema == pq.read_schema(tmp_path / f"{kind}-1-validation.parquet")
    with pytest.raises(DataError, match="every training utterance was set aside"):
        run_training(Split([empty], [], ""), Split([empty], [], ""), tmp_path, ablation())


def test_long_utterances_are_thinned_evenly(tmp_path):
    split = make_split(tmp_path, "train", 1, 0, frames=True)
    settings = ablation(head="transformer")
    settings.units["max_frames"] = 4  # of the copy that `ablation` made
    records = list(tfrecord.read(split.embeddings[0]))
    labels = read_training_labels(split.labels, TARGETS)
    items = list(open_features(split.embeddings, settings, read_shape(split.embeddings), None, labels))
    assert any(record.n_frames > 4 for record in records)
    for record, item in zip(records, items, strict=True):
        expected = record.embedding if record.n_frames <= 4 else record.embedding[::2]
        np.testing.assert_array_equal(item["features"], expected.astype(np.float32))
        assert item["n_frames"].numpy().tolist() == [len(expected)]


def test_a_damaged_model_is_named(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"not a model")
    with pytest.raises(DataError, match="model.keras: is not a model that can be loaded"):
        load_heads({1: str(path)})


def test_a_damaged_record_stops_training_by_name(tmp_path):
    split = make_split(tmp_path, "train", 2, 0)
    content = bytearray(Path(split.embeddings[1]).read_bytes())
    content[len(content) // 2] ^= 1
    Path(split.embeddings[1]).write_bytes(content)
    with pytest.raises(DataError, match="train-1.tfrecord: damaged at byte"):
        run_training(split, split, tmp_path, ablation())
    assert not (tmp_path / "models").exists()


def test_curves_are_not_written_through_links(tmp_path):
    (tmp_path / "data").mkdir()
    splits = [make_split(tmp_path / "data", *which) for which in (("train", 4, 0), ("validation", 2, 1))]
    folder, other = tmp_path / "logs/tensorboard/base", tmp_path / "other"
    (other / "seed-1").mkdir(parents=True)
    (other / "seed-1/events.out.tfevents.1").write_text("precious")
    folder.parent.mkdir(parents=True)
    folder.symlink_to(other)
    with pytest.raises(DataError, match="logs/tensorboard/base/seed-1: is a link, or in one"):
        run_training(*splits, tmp_path, ablation(), tensorboard=str(folder))
    assert (other / "seed-1/events.out.tfevents.1").read_text() == "precious"
    assert not (tmp_path / "models").exists()  # before any work


def test_curves_are_numbered_and_cleared_away(tmp_path):
    """As writers name them, by date and machine; the folder may hold other things."""
    for name in ("events.out.tfevents.1700000001.host.7.0", "events.out.tfevents.1700000000.host.8.0.v2", "notes.txt"):
        (tmp_path / name).write_text(name)
    rename_curves(tmp_path)
    rename_curves(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "events.out.tfevents.000",
        "events.out.tfevents.001",
        "notes.txt",
    ]
    assert "1700000000" in (tmp_path / "events.out.tfevents.000").read_text()
    clear_curves(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
