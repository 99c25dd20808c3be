"""Embedding records against TensorFlow's own reader, writer and protobuf."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ser.files import DataError
from ser.formats import tfrecord

arrays = st.sampled_from([np.float16, np.float32]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9))
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
records = st.builds(
    tfrecord.Record, texts, texts, st.text("0123456789abcdef", max_size=64), st.integers(0, 2**62), arrays
)


def example(n_frames=3, dtype=np.float16, shape=(4, 5), utterance_id="a/ä b.wav"):
    embedding = np.random.default_rng(0).normal(size=shape).astype(dtype)
    return tfrecord.Record(utterance_id, "speaker 1", "ab" * 32, n_frames, embedding)


def same(one: tfrecord.Record, other: tfrecord.Record) -> bool:
    return (
        (one.utterance_id, one.speaker_id, one.sha256, one.n_frames)
        == (other.utterance_id, other.speaker_id, other.sha256, other.n_frames)
        and one.embedding.dtype == other.embedding.dtype
        and one.embedding.shape == other.embedding.shape
        and one.embedding.tobytes() == other.embedding.tobytes()
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(records, max_size=4))
def test_records_come_back_bit_for_bit(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("round") / "shard.tfrecord"
    tfrecord.write(path, written)
    read = list(tfrecord.read(path))
    assert len(read) == len(written) and all(map(same, read, written))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_plain_tf_data_and_tf_train_example_read_the_layout(tmp_path, dtype):
    import tensorflow as tf

    path = tmp_path / "shard.tfrecord"
    tfrecord.write(path, [example(dtype=dtype), example(dtype=dtype, shape=(2, 5), utterance_id="b")])
    serialised = [item.numpy() for item in tf.data.TFRecordDataset(str(path))]
    assert len(serialised) == 2
    feature = tf.train.Example.FromString(serialised[0]).features.feature
    assert set(feature) == {"utterance_id", "speaker_id", "sha256", "n_frames", "shape", "dtype", "embedding"}
    assert feature["utterance_id"].bytes_list.value == ["a/ä b.wav".encode()]
    assert feature["speaker_id"].bytes_list.value == [b"speaker 1"]
    assert feature["sha256"].bytes_list.value == [b"ab" * 32]
    assert feature["n_frames"].int64_list.value == [3]
    assert feature["shape"].int64_list.value == [4, 5]
    assert feature["dtype"].bytes_list.value == [np.dtype(dtype).name.encode()]
    assert feature["embedding"].bytes_list.value == [example(dtype=dtype).embedding.tobytes()]


def test_a_file_by_tensorflow_is_read(tmp_path):
    import tensorflow as tf

    expected = example(dtype=np.float32)
    values = {
        "utterance_id": expected.utterance_id.encode(),
        "speaker_id": expected.speaker_id.encode(),
        "sha256": expected.sha256.encode(),
        "dtype": b"float32",
        "embedding": expected.embedding.tobytes(),
    }
    features = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in values.items()}
    features["n_frames"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[expected.n_frames]))
    features["shape"] = tf.train.Feature(int64_list=tf.train.Int64List(value=expected.embedding.shape))
    path = tmp_path / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as file:
        file.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    (read,) = tfrecord.read(path)
    assert same(read, expected)


def test_dataset_gives_float32_embeddings_in_file_order(tmp_path):
    paths = [tmp_path / "b.tfrecord", tmp_path / "a.tfrecord"]
    tfrecord.write(paths[0], [example(), example(dtype=np.float32, utterance_id="second")])
    tfrecord.write(paths[1], [example(shape=(7, 5), utterance_id="third")])
    got = list(tfrecord.dataset(paths, width=5).as_numpy_iterator())
    assert [item["utterance_id"].decode() for item in got] == ["a/ä b.wav", "second", "third"]
    assert [item["embedding"].shape for item in got] == [(4, 5), (4, 5), (7, 5)]
    assert all(item["embedding"].dtype == np.float32 for item in got)
    np.testing.assert_array_equal(got[0]["embedding"], example().embedding.astype(np.float32))
    np.testing.assert_array_equal(got[1]["embedding"], example(dtype=np.float32).embedding)
    assert tfrecord.dataset(paths[0], width=5, rows=4).element_spec["embedding"].shape == (4, 5)


def test_a_failing_writer_leaves_nothing(tmp_path):
    def failing():
        yield example()
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        tfrecord.write(tmp_path / "shard.tfrecord", failing())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("embedding", [np.zeros(3, np.float32), np.zeros((2, 2)), np.zeros((2, 2), np.int16)])
def test_an_embedding_of_another_kind_is_not_written(tmp_path, embedding):
    with pytest.raises(ValueError, match="2-D"):
        tfrecord.write(tmp_path / "x.tfrecord", [tfrecord.Record("u", "s", "", 1, embedding)])


def test_every_cut_is_noticed(tmp_path):
    """Between two records too: the first one says how long the file is. What is left of a file of 0 bytes is none."""
    path = tmp_path / "shard.tfrecord"
    tfrecord.write(path, [example(shape=(1, 2))] * 3)
    whole = path.read_bytes()
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="shard.tfrecord: damaged at byte 0 "):
            next(tfrecord.read(path))
    path.write_bytes(whole * 2)
    with pytest.raises(DataError, match=f"the file has {2 * len(whole)} bytes of {len(whole)}"):
        list(tfrecord.read(path))


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "shard.tfrecord"
    tfrecord.write(path, [example(shape=(1, 2))])
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(DataError, match="shard.tfrecord: damaged at byte 0 "):
            list(tfrecord.read(path))


def test_a_sound_record_that_is_no_embedding_is_refused(tmp_path):
    import tensorflow as tf

    path = tmp_path / "other.tfrecord"
    for content in (tf.train.Example().SerializeToString(), b"\xff\xff text"):
        with tf.io.TFRecordWriter(str(path)) as file:
            file.write(content)
        with pytest.raises(DataError, match="other.tfrecord: damaged at byte 0 .no embedding record"):
            list(tfrecord.read(path))


def test_a_huge_length_is_not_allocated(tmp_path):
    path = tmp_path / "huge.tfrecord"
    length = struct.pack("<Q", 2**60)
    path.write_bytes(length + struct.pack("<I", tfrecord._masked_crc(length)) + b"data")
    with pytest.raises(DataError, match="a record is cut off"):
        list(tfrecord.read(path))
