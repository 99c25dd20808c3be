"""ONNX graphs of strangers: looked through before onnxruntime sees them, and what they compute checked.

A graph is data, but its format has doors: files elsewhere, functions and subgraphs, operators without end. Only what
bundles are made of passes.
"""

from collections.abc import Iterator

import numpy as np

from ser_score.errors import BundleError

OPERATORS = {
    *("Add", "BatchNormalization", "Concat", "Conv", "Div", "Gelu", "Gemm", "Identity", "LayerNormalization", "MatMul"),
    *("Mul", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Slice", "Squeeze", "Sub", "Tile", "Transpose"),
    *("Unsqueeze", "com.microsoft/MultiHeadAttention"),
}
MOST_NODES = 100_000
ITEM = {1: 4, 7: 8}  # bytes of a number: float32, int64
# Fields of ONNX's protobuf messages, by number: those that may be there.
MODEL = {1: "ir_version", 2: "producer_name", 7: "graph", 8: "opset_import"}
GRAPH = {1: "node", 2: "name", 5: "initializer", 11: "input", 12: "output"}
NODE = {1: "input", 2: "output", 4: "op_type", 5: "attribute", 7: "domain"}
ATTRIBUTE = {1: "name", 2: "f", 3: "i", 7: "floats", 8: "ints", 20: "type"}
TENSOR = {1: "dims", 2: "data_type", 8: "name", 9: "raw_data"}


class Graph:
    """A graph that can be run: `graph(name=array, ...)` gives its outputs by name."""

    def __init__(self, data: bytes, name: str, inputs: set[str], outputs: set[str], threads: int):
        import onnxruntime

        try:
            check_graph(data)
        except (ValueError, IndexError, TypeError) as error:
            raise BundleError(f"its part {name} is no graph of a bundle: {error}") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's classes of errors have no common base
            raise BundleError(f"its part {name} cannot be loaded by onnxruntime: {str(error)[:200]}") from None
        found = {each.name for each in self._session.get_inputs()}, {each.name for each in self._session.get_outputs()}
        if found != (inputs, outputs):
            raise BundleError(f"its part {name} has the inputs {sorted(found[0])} and outputs {sorted(found[1])}")
        self._name, self._outputs = name, sorted(outputs)

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        try:
            values = self._session.run(self._outputs, inputs)
        except Exception as error:
            raise BundleError(f"its part {self._name} cannot be run: {str(error)[:200]}") from None
        for value in values:
            if not np.isfinite(value).all():
                raise BundleError(f"its part {self._name} makes numbers that are not finite")
        return dict(zip(self._outputs, values, strict=True))


def check_graph(data: bytes) -> None:
    """Raise ValueError, saying what, for a graph with anything that no bundle's has."""
    nodes = 0
    for field, graph in _read_message(memoryview(data), MODEL, "model"):
        for kind, value in _read_message(graph, GRAPH, "graph") if field == "graph" else ():
            if kind == "node":
                nodes += 1
                _check_node(value)
            elif kind == "initializer":
                _check_tensor(value)
    if not 0 < nodes <= MOST_NODES:
        raise ValueError(f"it has {nodes} operators")


def _check_node(data: memoryview) -> None:
    fields = list(_read_message(data, NODE, "operator"))
    text = {name: bytes(value).decode() for name, value in fields if name in ("op_type", "domain")}
    operator = "/".join(filter(None, [text.get("domain"), text.get("op_type")]))
    if operator not in OPERATORS:
        raise ValueError(f"its operator {operator[:50]!r} is none of a bundle's")
    for name, value in fields:
        if name == "attribute":
            list(_read_message(value, ATTRIBUTE, f"attribute of {operator}"))


def _check_tensor(data: memoryview) -> None:
    size, kind, length = 1, 0, 0
    for name, value in _read_message(data, TENSOR, "weight"):
        if name == "dims":
            for number in [value] if isinstance(value, int) else _read_numbers(value):
                size *= number
        elif name == "data_type":
            kind = value
        elif name == "raw_data":
            length = len(value)
    if kind not in ITEM or size * ITEM[kind] != length:
        raise ValueError("a weight is not of the size that it says")


def _read_message(data: memoryview, known: dict[int, str], what: str) -> Iterator[tuple[str, int | memoryview]]:
    """The fields of a protobuf message, by name; ValueError for one that is not known."""
    place = 0
    while place < len(data):
        key, place = _read_varint(data, place)
        number, wire = key >> 3, key & 7
        if number not in known:
            raise ValueError(f"its {what} has a field {number}, which none of a bundle's has")
        if wire == 0:
            value, place = _read_varint(data, place)
        elif wire == 2:
            length, place = _read_varint(data, place)
            value = data[place : place + length]
            place += length
        elif wire in (1, 5):
            value = data[place : place + (8 if wire == 1 else 4)]
            place += 8 if wire == 1 else 4
        else:
            raise ValueError(f"its {what} is damaged")
        if place > len(data):
            raise ValueError(f"its {what} is cut off")
        yield known[number], value


def _read_varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number in it has no end")


def _read_numbers(data: memoryview) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _read_varint(data, place)
        yield value
