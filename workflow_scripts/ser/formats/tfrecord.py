"""Embedding records: one `tf.train.Example` an utterance in TFRecord files, written and read without TensorFlow.

A TFRecord file is a sequence of: length (uint64), masked CRC-32C of the length, data, masked CRC-32C of the data,
all little-endian (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details).
"""

import contextlib
import functools
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from ser.files import DataError, atomic

DTYPES = ("float16", "float32")


@dataclass(frozen=True, eq=False)
class Record:
    """An utterance's embedding: (layers + 1, width) pooled over time, or (frames, width) of one layer."""

    utterance_id: str
    speaker_id: str
    sha256: str  # hex digest of the audio file's content
    n_frames: int  # frames at 50 Hz
    embedding: np.ndarray  # 2-D, float16 or float32


@functools.cache
def _example_class() -> type:
    """The message class `tf.train.Example`; its maps are spelled as what they are on the wire, repeated entries."""
    file = descriptor_pb2.FileDescriptorProto(name="ser/example.proto", package="ser", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    for message, fields in {
        "BytesList": [("value", 1, field.TYPE_BYTES, True)],
        "Int64List": [("value", 1, field.TYPE_INT64, True)],
        "Feature": [("bytes_list", 1, ".ser.BytesList", False), ("int64_list", 3, ".ser.Int64List", False)],
        "Entry": [("key", 1, field.TYPE_STRING, False), ("value", 2, ".ser.Feature", False)],
        "Features": [("feature", 1, ".ser.Entry", True)],
        # `file_bytes` is ours, in a file's first record alone; other readers skip a field that they do not know.
        "Example": [("features", 1, ".ser.Features", False), ("file_bytes", 15, field.TYPE_FIXED64, False)],
    }.items():
        descriptor = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            added = descriptor.field.add(name=name, number=number)
            added.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if isinstance(kind, str):
                added.type, added.type_name = field.TYPE_MESSAGE, kind
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ser.Example"))


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _encode(record: Record):
    """The record as a message of `_example_class`."""
    embedding = record.embedding
    if embedding.ndim != 2 or embedding.dtype.name not in DTYPES:
        raise ValueError(f"an embedding is 2-D and one of {DTYPES}, not {embedding.ndim}-D {embedding.dtype}")
    example = _example_class()()
    for key, value in (
        ("utterance_id", record.utterance_id.encode()),
        ("speaker_id", record.speaker_id.encode()),
        ("sha256", record.sha256.encode()),
        ("n_frames", [record.n_frames]),
        ("shape", embedding.shape),
        ("dtype", embedding.dtype.name.encode()),
        ("embedding", embedding.astype(embedding.dtype.newbyteorder("<"), copy=False).tobytes()),
    ):
        entry = example.features.feature.add(key=key)
        if isinstance(value, bytes):
            entry.value.bytes_list.value.append(value)
        else:
            entry.value.int64_list.value.extend(value)
    return example


def _decode(example) -> Record:
    feature = {entry.key: entry.value for entry in example.features.feature}

    def text(key: str) -> str:
        return feature[key].bytes_list.value[0].decode()

    dtype = text("dtype")
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r}")
    raw = feature["embedding"].bytes_list.value[0]
    embedding = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")).reshape(feature["shape"].int64_list.value)
    if embedding.ndim != 2:
        raise ValueError(f"shape {embedding.shape}")
    n_frames = feature["n_frames"].int64_list.value[0]
    return Record(text("utterance_id"), text("speaker_id"), text("sha256"), n_frames, embedding)


@contextlib.contextmanager
def writer(path: str | Path) -> Iterator[Callable[[Record], None]]:
    """Yield a function that appends a record; `path` appears, whole, when the block ends without an error.

    The first record says how long the file is, so that one that is cut between two records is told from a whole one.
    """
    with atomic(path) as temporary, open(temporary, "wb") as file:
        first = None

        def append(example) -> None:
            data = example.SerializeToString()
            length = struct.pack("<Q", len(data))
            file.write(length + struct.pack("<I", _masked_crc(length)))
            file.write(data)
            file.write(struct.pack("<I", _masked_crc(data)))

        def put(record: Record) -> None:
            nonlocal first
            example = _encode(record)
            if first is None:
                first, example.file_bytes = example, 1  # takes the place of the size, which has as many bytes
            append(example)

        yield put
        if first is not None:
            first.file_bytes = file.tell()
            file.seek(0)
            append(first)
        file.flush()


def write(path: str | Path, records: Iterable[Record]) -> None:
    """Write records as they come (nothing is held), atomically."""
    with writer(path) as put:
        for record in records:
            put(record)


def read(path: str | Path) -> Iterator[Record]:
    """Yield a file's records, each with both of its checksums verified; embeddings are read-only arrays.

    Raises DataError with the file and the byte offset of the record where data is cut off, altered or no embedding,
    and at once for a file of another length than it was written with.
    """
    offset, example_class = 0, _example_class()

    def damaged(what: str) -> DataError:
        return DataError(f"{path}: damaged at byte {offset} ({what}); delete it and run again")

    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        while head := file.read(12):
            if len(head) < 12:
                raise damaged("a record's head is cut off")
            length, crc = struct.unpack("<QI", head)
            if crc != _masked_crc(head[:8]):
                raise damaged("a record's length does not match its checksum")
            if offset + length + 16 > size:
                raise damaged("a record is cut off")
            data = file.read(length)
            if struct.unpack("<I", file.read(4))[0] != _masked_crc(data):
                raise damaged("a record does not match its checksum")
            try:
                example = example_class.FromString(data)
                record = _decode(example)
            except (DecodeError, KeyError, IndexError, ValueError, TypeError) as error:
                raise damaged(f"no embedding record: {error!r}") from error
            if example.file_bytes not in (0, size):  # 0: not in a first record, nor in files of other programs
                raise damaged(f"the file has {size} bytes of {example.file_bytes}")
            yield record
            offset += length + 16


def dataset(paths: str | Path | Iterable[str | Path], width: int, rows: int | None = None):
    """A `tf.data.Dataset` of the files' records in order, for training.

    Elements are dicts: `utterance_id`, `speaker_id`, `sha256` (string), `n_frames` (int64) and `embedding`
    (float32, (rows, width); `rows` None where it varies, as in frames). TensorFlow verifies the checksums and raises
    `tf.errors.DataLossError` for damaged data; a record of another width or number of rows is an error too.
    """
    import tensorflow as tf

    names = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    features = {key: tf.io.FixedLenFeature([], tf.string) for key in ("utterance_id", "speaker_id", "sha256")}
    features |= {key: tf.io.FixedLenFeature([], tf.string) for key in ("dtype", "embedding")}
    features |= {"n_frames": tf.io.FixedLenFeature([], tf.int64), "shape": tf.io.FixedLenFeature([2], tf.int64)}

    def parse(serialised):
        record = tf.io.parse_single_example(serialised, features)
        raw, dtype, shape = record.pop("embedding"), record.pop("dtype"), record.pop("shape")
        values = tf.cond(
            dtype == "float16",
            lambda: tf.cast(tf.io.decode_raw(raw, tf.float16), tf.float32),
            lambda: tf.io.decode_raw(raw, tf.float32),
        )
        return record | {"embedding": tf.ensure_shape(tf.reshape(values, shape), (rows, width))}

    return tf.data.TFRecordDataset(names, buffer_size=1 << 20).map(
        tf.autograph.experimental.do_not_convert(parse), num_parallel_calls=tf.data.AUTOTUNE
    )
