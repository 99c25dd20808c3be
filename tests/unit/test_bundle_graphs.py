"""Encoders and heads in ONNX compute what the workflow's own do, at any length: no length is frozen into a graph."""

import keras
import numpy as np
import onnxruntime
import pytest
from made_bundle import PRE_NORM, make_encoder, make_head, speak

from ser.bundles.encoder_graph import export_encoder
from ser.bundles.graph import Graph as Writer
from ser.bundles.head_graph import export_head
from ser.config.ablation import Ablation
from ser.encoders.engine import Encoder
from ser.files import DataError
from ser.heads.model import join_heads
from ser_score.encoder import Encoder as Runner
from ser_score.errors import BundleError
from ser_score.graphs import OPERATORS, Graph, check_graph

# The shortest that is allowed, a frame more and less, half, twice and ten times a second; the last one in windows.
LENGTHS = [400, 719, 720, 8000, 16_000, 32_000, 160_000]
KINDS = {
    "group norm": {},
    "layer norms": PRE_NORM,
    "batch norm": {"conv_pos_batch_norm": True},
    "odd kernel, no norm before the projection": {"num_conv_pos_embeddings": 15, "feat_proj_layer_norm": False},
    "wav2vec 2.0": {"family": "Wav2Vec2"} | PRE_NORM,
    "UniSpeech": {"family": "UniSpeech"},
    "MMS": {"family": "Wav2Vec2", "adapter_attn_dim": 5} | PRE_NORM,
    "data2vec": {"family": "Data2VecAudio", "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3},
}
FUSIONS = ["none", "sum", "concat", "concat_lift", "film"]
UNITS = {
    "mlp": [16, 8],
    "transformer": {"width": 12, "layers": 1, "attention_heads": 3, "feed_forward": 10, "max_frames": 9},
}
CASES = [*(("mlp", fusion, "weighted") for fusion in FUSIONS), ("mlp", "sum", 1)]
CASES += [("transformer", fusion, None) for fusion in ("none", "sum", "concat")]


def open_runner(graphs, dtype="float32"):
    facts = graphs.facts
    first = {"kernel", "bias"} if graphs.first else set()
    inputs = {"features", "inner"} | ({"vector"} if facts["vector"] else set())
    return Runner(
        front=Graph(graphs.front, "front", {"samples"} | first, {"features"}, 1),
        body=Graph(graphs.body, "body", inputs, {"sums"} | ({"frames"} if facts["frames"] else set()), 1),
        first=graphs.first,
        dtype=np.dtype(dtype),
        **{key: facts[key] for key in ("normalise", "stride", "states", "width", "frames", "vector")},
    )


def compare(folder, lengths, position=None, output=False):
    """Largest difference of pooled states and frames from the workflow's, relative to the largest of these."""
    runner, expected = open_runner(export_encoder(folder, -1, output)), Encoder(folder, "cpu", 1)
    vector = np.linspace(-2, 3, runner.width).astype(np.float32) if position else None
    worst = 0.0
    for length in lengths:
        wave = speak(length / 16_000, seed=length)
        pooled, frames = runner.embed(wave, vector)
        layer = len(expected.layers)
        known = expected.embed([wave], layer, None if vector is None else [vector], output)[0]
        for found, right in ((pooled, known.pooled), (frames, known.frames)):
            assert found.shape == right.shape
            worst = max(worst, abs(found - right).max() / abs(right).max())
    return worst


# 1e-5 of the largest value: float32 through a few layers, in another order of summation
@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_an_encoder_is_the_workflows_at_any_length(tmp_path, config):
    assert compare(make_encoder(tmp_path, **config), LENGTHS) < 1e-5


def test_long_audio_goes_through_the_same_windows(tmp_path):
    assert compare(make_encoder(tmp_path), [85 * 16_000]) < 1e-5


@pytest.mark.parametrize("position", ["last", "first", "prefix"])
def test_a_personalised_encoder_takes_the_speakers_vector(tmp_path, position):
    assert compare(make_encoder(tmp_path, position), [400, 9000], position) < 1e-5


@pytest.mark.parametrize("config", [{}, PRE_NORM], ids=["post-norm", "pre-norm"])
def test_a_fine_tuned_encoder_gives_its_output_alone(tmp_path, config):
    assert compare(make_encoder(tmp_path, **config), [400, 9000], output=True) < 1e-5


def test_embeddings_are_rounded_as_the_workflow_stores_them(tmp_path):
    graphs = export_encoder(make_encoder(tmp_path), None, False)
    pooled, frames = open_runner(graphs, "float16").embed(speak(1))
    assert frames is None and np.array_equal(pooled, pooled.astype(np.float16))


def test_a_wavlm_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match="its encoder is a WavLM, whose attention has a bias"):
        export_encoder(make_encoder(tmp_path, family="WavLM"), None, False)


def test_weights_that_are_not_the_cards_are_refused(tmp_path):
    folder = make_encoder(tmp_path)
    with open(folder / "config.json", "a") as file:
        file.write(" ")
    with pytest.raises(DataError, match=r"config\.json"):
        export_encoder(folder, None, False)


@pytest.mark.parametrize(("head", "fusion", "layer"), CASES, ids=lambda value: str(value))
def test_a_head_is_keras_own(head, fusion, layer):
    ablation = Ablation(
        encoder="e",
        speaker="none" if fusion == "none" else "mfcc",
        fusion=fusion,
        head=head,
        layer=layer,
        units=UNITS[head],
        training={"dropout": 0.2},
    )
    check_head(make_head(ablation, 3, 20, seed=1))


def test_separate_heads_are_joined():
    ablation = Ablation(encoder="e", layer="weighted", units=[8], training={"dropout": 0.2})
    check_head(join_heads([make_head(ablation, 3, 20, seed, targets=1) for seed in (1, 2)]))


def check_head(model):
    session = onnxruntime.InferenceSession(data := export_head(model), providers=["CPUExecutionProvider"])
    check_graph(data)
    rng = np.random.default_rng(0)
    for frames in (1, 9, 40) if model.inputs[0].shape[1] is None else (1,):
        item = {
            x.name: rng.normal(size=[1, *(frames if size is None else size for size in x.shape[1:])]).astype(np.float32)
            for x in model.inputs
            if x.name != "n_frames"
        }
        given = item | ({"n_frames": np.array([[frames]], np.int32)} if len(model.inputs) > len(item) else {})
        expected = model(given, training=False)
        for name, found in zip(("labels", "fused"), session.run(["labels", "fused"], item), strict=True):
            right = keras.ops.convert_to_numpy(expected[name])
            np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)  # values up to 100, in float32


def test_a_layer_without_a_counterpart_is_named():
    x = keras.layers.Input((4,), name="features")
    y = keras.layers.ELU()(x)
    with pytest.raises(ValueError, match="a layer of the kind ELU"):
        export_head(keras.Model({"features": x}, {"labels": y, "fused": x}))


def test_the_same_graph_has_the_same_bytes(tmp_path):
    folder = make_encoder(tmp_path)
    one, other = (export_encoder(folder, -1, False) for _ in range(2))
    assert (one.front, one.body) == (other.front, other.body)


# What a stranger's graph may not have


def write_graph(operator="Relu", domain="", **attributes):
    graph = Writer()
    x = graph.input("x", (1,))
    graph.output("y", graph.add(operator, x, domain=domain, **attributes), (1,))
    return graph.to_bytes()


def test_a_strangers_graph_is_looked_through():
    check_graph(write_graph())
    for data, match in [
        (write_graph("Loop"), "operator 'Loop'"),
        (write_graph("Relu", domain="evil"), "operator 'evil/Relu'"),
        (write_graph("Constant", value_string="x"), "operator 'Constant'"),
        (write_graph("Relu", code="x"), "has a field 4"),
        (write_graph()[:-3], "cut off|damaged|field"),
        (b"", "0 operators"),
        (b"\xff" * 40, "end|field"),
    ]:
        with pytest.raises((ValueError, IndexError), match=match):
            check_graph(data)
    assert not {"If", "Loop", "Scan", "Constant", "ConstantOfShape", "Expand"} & OPERATORS


def test_weights_elsewhere_are_refused():
    """External data, which a file format without end would read from any path."""
    import onnx

    model = onnx.load_model_from_string(write_graph())
    weight = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "w")
    model.graph.initializer.append(weight)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "/etc/passwd")
    with pytest.raises(ValueError, match="has a field 1[34]"):
        check_graph(model.SerializeToString())
    model.graph.initializer[0].CopyFrom(weight)
    model.graph.initializer[0].dims[0] = 1 << 40
    with pytest.raises(ValueError, match="not of the size that it says"):
        check_graph(model.SerializeToString())


def test_a_graph_that_makes_nonsense_is_an_error():
    graph = Writer()
    graph.output("y", graph.add("Div", graph.input("x", (1,)), np.zeros(1)), (1,))
    run = Graph(graph.to_bytes(), "odd", {"x"}, {"y"}, 1)
    with pytest.raises(BundleError, match="odd makes numbers that are not finite"):
        run(x=np.ones(1, np.float32))
    with pytest.raises(BundleError, match="odd cannot be run"):
        run(x=np.ones((2, 2), np.float32))
    with pytest.raises(BundleError, match="has the inputs"):
        Graph(graph.to_bytes(), "odd", {"z"}, {"y"}, 1)
