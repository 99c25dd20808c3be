"""ONNX graphs, written operator by operator: nothing is traced, so that no length can be frozen into one."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 20  # the first that has GELU
IR_VERSION = 9
MOST_BYTES = 2**31 - 1  # of a protobuf message


class Graph:
    """A graph of named values; the same calls make the same bytes."""

    def __init__(self):
        self._nodes, self._weights, self._inputs, self._outputs = [], [], [], []

    def input(self, name: str, shape: tuple, dtype=np.float32) -> str:
        """An input; a text in `shape` stands for any length."""
        self._inputs.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        )
        return name

    def weight(self, array) -> str:
        """A constant: float32, or int64 of what is whole."""
        array = np.ascontiguousarray(array)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, *inputs, domain: str = "", **attributes) -> str:
        """A node's output; inputs that are no names of values are constants."""
        names = [value if isinstance(value, str) else self.weight(value) for value in inputs]
        output = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, names, [output], domain=domain, **attributes))
        return output

    def output(self, name: str, value: str, shape: tuple) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))

    def to_bytes(self) -> bytes:
        """The model, checked; ValueError for one beyond what a file can hold."""
        graph = helper.make_graph(self._nodes, "graph", self._inputs, self._outputs, self._weights)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
            ir_version=IR_VERSION,
            producer_name="ser",
        )
        if model.ByteSize() > MOST_BYTES:
            raise ValueError(f"{model.ByteSize() / 1e9:.1f} GB of weights, and an ONNX file holds 2.1")
        return model.SerializeToString(deterministic=True)
