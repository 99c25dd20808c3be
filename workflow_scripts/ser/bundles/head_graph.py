"""A head, Keras' own, as an ONNX graph of one utterance: each kind of layer has its counterpart here."""

from functools import partial

import keras
import numpy as np

from ser.bundles.graph import Graph
from ser.heads.model import FrameMask, LayerMix, RepeatOverTime


def export_head(head: keras.Model) -> bytes:
    """The graph of a head: `features`, with a batch of one, and where it reads it `speaker` -> `labels` and `fused`.

    An utterance by itself has no padding, so that `n_frames` and masks have no part in it. Raises ValueError for a kind
    of layer without a counterpart.
    """
    graph, inputs = Graph(), {}
    for x in head.inputs:
        if x.name != "n_frames":
            inputs[x.name] = graph.input(x.name, (1, *("frames" if size is None else size for size in x.shape[1:])))
    outputs = _apply_model(graph, head, inputs)
    for name, size in ((name, head.output[name].shape[-1]) for name in ("labels", "fused")):
        graph.output(name, outputs[name], (1, size))
    return graph.to_bytes()


def _apply_model(graph: Graph, model: keras.Model, inputs: dict):
    """The outputs of a functional model, with names of values in place of tensors."""
    ordered = [inputs.get(x.name) for x in model.inputs]
    return model._run_through_graph(ordered, operation_fn=lambda layer: partial(_apply_layer, graph, layer))


def _apply_layer(graph: Graph, layer, *args, **options):
    if isinstance(layer, keras.Model):
        return _apply_model(graph, layer, *args)
    kind = next((kind for kind in _LAYERS if type(layer) is kind), None)
    if kind is None:
        raise ValueError(
            f"its head has a layer of the kind {type(layer).__name__}, which has no counterpart in ONNX here"
        )
    return _LAYERS[kind](graph, layer, *args)


def _array(value) -> np.ndarray:
    return keras.ops.convert_to_numpy(value)


def _normalise(graph, layer, x):
    return graph.add("Div", graph.add("Sub", x, _array(layer.mean)), np.maximum(np.sqrt(_array(layer.variance)), 1e-7))


def _mix(graph, layer, x):  # (1, L, W) -> (1, W)
    shares = _array(keras.ops.softmax(layer.logits))
    return graph.add("Squeeze", graph.add("MatMul", shares[None, None], x), np.array([1]))


def _dense(graph, layer, x):
    x = graph.add("Add", graph.add("MatMul", x, _array(layer.kernel)), _array(layer.bias))
    name = layer.activation.__name__
    if name not in _ACTIVATIONS:
        raise ValueError(f"its head has the activation {name}, which has no counterpart in ONNX here")
    return graph.add(_ACTIVATIONS[name], x) if _ACTIVATIONS[name] else x


def _batch_normalise(graph, layer, x):
    scale = _array(layer.gamma) / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    return graph.add("Add", graph.add("Mul", x, scale), _array(layer.beta) - _array(layer.moving_mean) * scale)


def _layer_normalise(graph, layer, x):
    return graph.add("LayerNormalization", x, _array(layer.gamma), _array(layer.beta), epsilon=layer.epsilon)


def _rescale(graph, layer, x):
    scale, offset = (np.asarray(value, np.float32) for value in (layer.scale, layer.offset))
    return graph.add("Add", graph.add("Mul", x, scale), offset)


def _average(graph, layer, x, *masks):  # (1, T, W) -> (1, W)
    return graph.add("ReduceMean", x, np.array([1]), keepdims=0)


def _attend(graph, layer, query, value, *masks):
    """Self-attention of one utterance, (1, T, W) each: projections to (heads, size), and back."""

    def project(x, dense):  # (W, heads, size)
        kernel = _array(dense.kernel)
        return graph.add("Add", graph.add("MatMul", x, kernel.reshape(len(kernel), -1)), _array(dense.bias).ravel())

    sides = ((query, layer._query_dense), (value, layer._key_dense), (value, layer._value_dense))
    parts = [project(x, dense) for x, dense in sides]
    x = graph.add("MultiHeadAttention", *parts, domain="com.microsoft", num_heads=layer.num_heads)
    dense = layer._output_dense  # (heads, size, W)
    kernel = _array(dense.kernel)
    return graph.add("Add", graph.add("MatMul", x, kernel.reshape(-1, kernel.shape[-1])), _array(dense.bias))


def _repeat(graph, layer, vector, frames):  # (1, V), (1, T, W) -> (1, T, V)
    steps = graph.add("Slice", graph.add("Shape", frames), np.array([1]), np.array([2]))
    shape = graph.add("Concat", np.array([1]), steps, np.array([1]), axis=0)
    return graph.add("Tile", graph.add("Unsqueeze", vector, np.array([1])), shape)


def _reshape(graph, layer, x):
    return None if x is None else graph.add("Reshape", x, np.array([1, *layer.target_shape]))  # None: a mask


_ACTIVATIONS = {"linear": None, "relu": "Relu", "gelu": "Gelu"}
_LAYERS = {
    keras.layers.Normalization: _normalise,
    LayerMix: _mix,
    FrameMask: lambda graph, layer, *inputs: None,
    RepeatOverTime: _repeat,
    keras.layers.Dense: _dense,
    keras.layers.Dropout: lambda graph, layer, x: x,
    keras.layers.Identity: lambda graph, layer, x: x,
    keras.layers.BatchNormalization: _batch_normalise,
    keras.layers.LayerNormalization: _layer_normalise,
    keras.layers.Rescaling: _rescale,
    keras.layers.Reshape: _reshape,
    keras.layers.GlobalAveragePooling1D: _average,
    keras.layers.MultiHeadAttention: _attend,
    keras.layers.Add: lambda graph, layer, parts: graph.add("Add", *parts),
    keras.layers.Multiply: lambda graph, layer, parts: graph.add("Mul", *parts),
    keras.layers.Concatenate: lambda graph, layer, parts: graph.add("Concat", *parts, axis=-1),
}
