"""Features of utterances as `tf.data`: embeddings with their speaker's vector and labels beside them."""

import contextlib
import itertools
from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from ser.config.ablation import Ablation
from ser.files import DataError
from ser.formats import tfrecord
from ser.heads.companions import Companions
from ser.heads.inputs import Labels, choose


@dataclass(frozen=True)
class Shape:
    """Shape of an encoder's stored features, before a head's choice: `rows` layers, or frames of one layer."""

    rows: int
    width: int


def read_shape(paths: list[str]) -> Shape | None:
    """The features' shape, from the first record that there is; None where every utterance was set aside."""
    record = next((record for path in paths for record in tfrecord.read(path)), None)
    return Shape(*record.embedding.shape) if record else None


def open_features(
    paths: list[str],
    ablation: Ablation,
    shape: Shape,
    speakers: dict[str, np.ndarray] | None,
    labels: Labels,
    weights: dict[str, float] | None = None,
    companions: Companions | None = None,
) -> tf.data.Dataset:
    """Features of each utterance that has labels, in stored order, as dictionaries.

    `features`, float32 (L, W), (W,) or (T, W), `n_frames`, (1,), `utterance_id` and `speaker_id`; `labels`, (targets,);
    `speaker`, (V,), with `speakers`; `weight`, (1,), 1 or the speaker's in `weights`. What a head takes of an
    embedding is as in `choose`, normalised by what `companions` say.

    Raises DataError where the ablation's layer is none of the encoder's.
    """
    frames, layer = ablation.reads_frames, ablation.layer
    if isinstance(layer, int) and not -shape.rows <= layer < shape.rows:
        raise DataError(
            f"layer {layer} of the ablation is not one of encoder {ablation.encoder!r}: it has 0 to {shape.rows - 1}"
        )
    rows = _table(labels.utterance_ids)
    values = tf.constant(labels.values, tf.float32)
    speaker_rows = _table(list(speakers)) if speakers else None
    vectors = tf.constant(np.stack(list(speakers.values())), tf.float32) if speakers else None
    weight_rows = _table(list(weights)) if weights else None
    weight_values = tf.constant([[weight] for weight in weights.values()], tf.float32) if weights else None

    def normalise(utterance, speaker, features):
        return companions.normalise(utterance.decode(), speaker.decode(), features)

    def arrange(record):
        embedding = record["embedding"]
        chosen = choose(embedding, tf.shape(embedding)[0], ablation)
        if ablation.normalise:
            names = record["utterance_id"], record["speaker_id"]
            normalised = tf.numpy_function(normalise, [*names, chosen], tf.float32, stateful=False)
            chosen = tf.ensure_shape(normalised, chosen.shape)
        item = {key: record[key] for key in ("utterance_id", "speaker_id")}
        item["labels"] = values[rows.lookup(record["utterance_id"])]
        item["features"] = tf.ensure_shape(chosen, (None, shape.width)) if frames else chosen
        item["n_frames"] = tf.shape(chosen)[:1]
        if speakers:
            item["speaker"] = tf.ensure_shape(vectors[speaker_rows.lookup(record["speaker_id"])], vectors.shape[1:])
        item["weight"] = weight_values[weight_rows.lookup(record["speaker_id"])] if weights else tf.ones(1)
        return item

    records = tfrecord.dataset(paths, shape.width, None if frames else shape.rows)
    records = records.filter(lambda record: rows.lookup(record["utterance_id"]) >= 0)
    # As in training, AutoGraph has nothing to convert.
    return records.map(tf.autograph.experimental.do_not_convert(arrange), num_parallel_calls=2, deterministic=True)


def read_blocks(paths: list[str], size: int, wanted: Container[str] | None = None) -> Iterator[list[tfrecord.Record]]:
    """Lists of `size` records, the last one shorter, in stored order; only of utterances in `wanted`, if given."""
    records = (record for path in paths for record in tfrecord.read(path))
    if wanted is not None:
        records = (record for record in records if record.utterance_id in wanted)
    while block := list(itertools.islice(records, size)):
        yield block


@contextlib.contextmanager
def naming_damage(paths: list[str]) -> Iterator[None]:
    """Turn TensorFlow's error for a damaged record into a DataError that names the file."""
    try:
        yield
    except tf.errors.DataLossError:
        for path in paths:
            for _ in tfrecord.read(path):
                pass
        raise


def batch(dataset: tf.data.Dataset, size: int, drop_remainder: bool = False) -> tf.data.Dataset:
    """Batches; frames are padded with zeros to the longest of the batch."""
    return dataset.padded_batch(size, drop_remainder=drop_remainder).prefetch(2)


def _table(keys: list[str]) -> tf.lookup.StaticHashTable:
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(keys), tf.range(len(keys)))
    return tf.lookup.StaticHashTable(initializer, -1)
