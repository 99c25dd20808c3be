"""An encoder as two ONNX graphs with the arithmetic of `encoders.engine`: the front over samples, the body over frames.

The front can be run over parts of an utterance and the body over windows of its frames, as the workflow does: what
depends on the whole utterance (the level, and HuBERT-base's GroupNorm) is given to the front as the first convolution.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ser.bundles.graph import Graph
from ser.files import check_digests, read_json
from ser.formats.encoder_families import find_bundle_fault, is_grouped, is_pre_norm
from ser.formats.encoder_folder import DIGESTS, WEIGHTS

NORM_EPS = 1e-5  # of the front's norms, and the adapters'


@dataclass(frozen=True, eq=False)
class EncoderGraphs:
    """`front`: `samples` (1, 1, n), with a GroupNorm `kernel` (C, 1, k) and `bias` (C,) -> `features` (frames, C).

    `body`: `features`, `inner` (2,) the frames that count, with a personalised encoder `vector` (1, W) of the speaker
    -> `sums` (states, W) over these frames, and where they are asked for `frames` (inner frames, W).
    """

    front: bytes
    body: bytes
    first: dict[str, np.ndarray] | None  # kernel (C, k), gamma, beta of a first convolution that a GroupNorm follows
    facts: dict  # what a runner must know of it


def export_encoder(folder: str | Path, frames_layer: int | None, output: bool) -> EncoderGraphs:
    """The graphs of the encoder in a folder; `frames_layer` and `output` are those of `Encoder.embed`.

    Raises DataError for a damaged folder and ValueError for an encoder that is too large.
    """
    folder = Path(folder)
    card = read_json(folder / "card.json")
    digests = {name: card[key] for name, key in DIGESTS.items() if key in card}
    check_digests((folder / name for name in DIGESTS), digests, folder / "card.json")
    config, weights = read_json(folder / "config.json"), load_file(folder / WEIGHTS)
    if fault := find_bundle_fault(config.get("model_type")):
        raise ValueError(fault)
    grouped, position = is_grouped(config), card.get("position")
    facts = {
        "normalise": read_json(folder / "preprocessor_config.json")["do_normalize"],
        "stride": config["conv_stride"][0],
        "features": config["conv_dim"][-1],
        "width": config["hidden_size"],
        "states": 1 if output else config["num_hidden_layers"] + 1,
        "vector": position is not None,
        "frames": frames_layer is not None,
    }
    first = None
    if grouped:
        name = "feature_extractor.conv_layers.0"
        first = {"kernel": weights[f"{name}.conv.weight"][:, 0]}
        first |= {
            ours: weights[f"{name}.layer_norm.{theirs}"] for ours, theirs in (("gamma", "weight"), ("beta", "bias"))
        }
    body = _Body(config, weights, position, frames_layer, output)
    return EncoderGraphs(_write_front(config, weights, grouped), body.write(), first, facts)


def _write_front(config: dict, weights: dict[str, np.ndarray], grouped: bool) -> bytes:
    graph = Graph()
    x = graph.input("samples", (1, 1, "samples"))
    for i, stride in enumerate(config["conv_stride"]):
        name = f"feature_extractor.conv_layers.{i}"
        kernel, bias = weights[f"{name}.conv.weight"], weights.get(f"{name}.conv.bias")
        shape = kernel.shape
        if grouped and i == 0:
            kernel, bias = graph.input("kernel", shape), graph.input("bias", shape[:1])
        x = graph.add("Conv", x, kernel, *([] if bias is None else [bias]), strides=[stride], kernel_shape=[shape[2]])
        if not grouped:
            x = graph.add("Transpose", x, perm=[0, 2, 1])
            norm = weights[f"{name}.layer_norm.weight"], weights[f"{name}.layer_norm.bias"]
            x = graph.add("LayerNormalization", x, *norm, epsilon=NORM_EPS)
            x = graph.add("Transpose", x, perm=[0, 2, 1])
        x = graph.add("Gelu", x)
    x = graph.add("Transpose", x, perm=[0, 2, 1])
    width = config["conv_dim"][-1]
    graph.output("features", graph.add("Reshape", x, np.array([-1, width])), ("frames", width))
    return graph.to_bytes()


class _Body:
    """The Transformer and what leads to it, over (frames, features) of one utterance or window."""

    def __init__(self, config: dict, weights: dict, position: str | None, frames_layer: int | None, output: bool):
        self.config, self.weights, self.graph = config, weights, Graph()
        self.position, self.frames_layer, self.output = position, frames_layer, output
        self.stable, self.layers = is_pre_norm(config), config["num_hidden_layers"]

    def write(self) -> bytes:
        graph, width = self.graph, self.config["hidden_size"]
        x = graph.input("features", ("frames", self.config["conv_dim"][-1]))
        bounds = graph.input("inner", (2,), np.int64)
        bounds = [graph.add("Slice", bounds, np.array([i]), np.array([i + 1])) for i in (0, 1)]
        vector = graph.input("vector", (1, width)) if self.position else None
        sums = []
        wanted = None if self.frames_layer is None else self.frames_layer % (self.layers + 1)
        for number, state in enumerate(self._states(x, vector)):
            if self.output and number < self.layers:
                continue
            if self.output and self.stable:
                state = self._norm(state, "encoder.layer_norm")
            state = graph.add("Slice", state, *bounds, np.array([0]))
            sums.append(graph.add("ReduceSum", state, np.array([0]), keepdims=1))
            if number == wanted:
                graph.output("frames", state, ("inner", width))
        graph.output("sums", graph.add("Concat", *sums, axis=0), (len(sums), width))
        return graph.to_bytes()

    def _states(self, x: str, vector: str | None):
        """Each hidden state, (frames, W), as `Encoder._hidden_states` yields them."""
        graph = self.graph
        if self.config.get("feat_proj_layer_norm", True):
            x = self._norm(x, "feature_projection.layer_norm")
        x = self._linear(x, "feature_projection.projection")
        x = graph.add("Add", x, self._positions(x))
        x = x if self.stable else self._norm(x, "encoder.layer_norm")
        if self.position == "first":
            x = graph.add("Add", x, vector)
        prefix = self.position == "prefix"
        if prefix:
            x = graph.add("Concat", vector, x, axis=0)

        def show(x: str) -> str:
            return graph.add("Slice", x, np.array([1]), np.array([2**62]), np.array([0])) if prefix else x

        yield show(x)
        for number in range(self.layers):
            name = f"encoder.layers.{number}"
            y = self._attention(self._norm(x, f"{name}.layer_norm") if self.stable else x, f"{name}.attention")
            x = graph.add("Add", y, x)
            x = x if self.stable else self._norm(x, f"{name}.layer_norm")
            y = self._norm(x, f"{name}.final_layer_norm") if self.stable else x
            y = graph.add("Gelu", self._linear(y, f"{name}.feed_forward.intermediate_dense"))
            x = graph.add("Add", self._linear(y, f"{name}.feed_forward.output_dense"), x)
            x = x if self.stable else self._norm(x, f"{name}.final_layer_norm")
            if f"{name}.adapter_layer.norm.weight" in self.weights:
                own = f"{name}.adapter_layer"
                y = self._linear(self._norm(x, f"{own}.norm", NORM_EPS), f"{own}.linear_1")
                x = graph.add("Add", x, self._linear(graph.add("Relu", y), f"{own}.linear_2"))
            if self.position == "last" and number == self.layers - 1:
                yield graph.add("Add", x, vector)
            else:
                yield show(x)

    def _norm(self, x: str, name: str, eps: float | None = None) -> str:
        pair = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self.graph.add("LayerNormalization", x, *pair, epsilon=eps or self.config["layer_norm_eps"])

    def _linear(self, x: str, name: str) -> str:
        return self.graph.add("Gemm", x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], transB=1)

    def _attention(self, x: str, name: str) -> str:
        """Self-attention; onnxruntime's own operator keeps no matrix of all frames by all frames."""
        parts = [self.graph.add("Unsqueeze", self._linear(x, f"{name}.{part}_proj"), np.array([0])) for part in "qkv"]
        heads = self.config["num_attention_heads"]
        x = self.graph.add("MultiHeadAttention", *parts, domain="com.microsoft", num_heads=heads)
        return self._linear(self.graph.add("Squeeze", x, np.array([0])), f"{name}.out_proj")

    def _positions(self, x: str) -> str:
        """The convolutional position embedding, (frames, W)."""
        graph, config, name = self.graph, self.config, "encoder.pos_conv_embed"
        x = graph.add("Unsqueeze", graph.add("Transpose", x, perm=[1, 0]), np.array([0]))  # (1, W, frames)
        if "conv_pos_kernel_size" in config:  # data2vec-audio: a stack of convolutions, with norms that learn nothing
            ones, zeros = np.ones(config["hidden_size"]), np.zeros(config["hidden_size"])
            for each in (f"{name}.layers.{i}.conv" for i in range(config["num_conv_pos_embeddings"])):
                x = graph.add("Transpose", self._convolve(x, each, self.weights[f"{each}.weight"]), perm=[0, 2, 1])
                x = graph.add("LayerNormalization", x, ones, zeros, epsilon=NORM_EPS)
                x = graph.add("Gelu", graph.add("Transpose", x, perm=[0, 2, 1]))
            return graph.add("Transpose", graph.add("Squeeze", x, np.array([0])), perm=[1, 0])
        if config.get("conv_pos_batch_norm", False):
            kinds = ("weight", "bias", "running_mean", "running_var")
            values = [self.weights[f"{name}.batch_norm.{kind}"] for kind in kinds]
            x = graph.add("BatchNormalization", x, *values, epsilon=NORM_EPS)
            kernel = self.weights[f"{name}.conv.weight"]
        else:  # weight norm: g · v / |v|, folded once
            g, v = (self.weights[f"{name}.conv.parametrizations.weight.original{i}"] for i in (0, 1))
            kernel = g * v / np.sqrt(np.square(v).sum(axis=(0, 1), keepdims=True, dtype=np.float64))
        x = graph.add("Gelu", self._convolve(x, f"{name}.conv", kernel))
        return graph.add("Transpose", graph.add("Squeeze", x, np.array([0])), perm=[1, 0])

    def _convolve(self, x: str, name: str, kernel: np.ndarray) -> str:
        """A grouped convolution over time, (1, W, frames) -> the same, also with an even kernel."""
        size, groups = kernel.shape[2], self.config["num_conv_pos_embedding_groups"]
        padding = [size // 2, (size - 1) // 2]
        bias = self.weights[f"{name}.bias"]
        return self.graph.add("Conv", x, kernel, bias, pads=padding, group=groups, kernel_shape=[size])
