import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from ser.config.ablation import Ablation
from ser.heads.model import apply_together, build_head, find_layer, join_heads, set_statistics
from ser.heads.numerics import fix_numerics
from ser.heads.training import ccc_loss

fix_numerics(1)  # as a job does, before TensorFlow starts

L, W, T, V = 3, 20, 7, 13
UNITS = {
    "mlp": [16, 8],
    "transformer": {"width": 12, "layers": 2, "attention_heads": 3, "feed_forward": 10, "max_frames": 9},
}
FUSIONS = ["none", "sum", "concat", "concat_lift", "film"]


def settings(head="mlp", fusion="none", layer="weighted"):
    return Ablation(
        encoder="e",
        speaker="none" if fusion == "none" else "mfcc",
        fusion=fusion,
        head=head,
        layer=layer if head == "mlp" else None,
        units=UNITS[head],
        training={"dropout": 0.2},
    )


def build(**options):
    return build_head(settings(**options), n_layers=L, width=W, label_mean=[4.0, 3.0, 5.0], label_sd=[1.0, 2.0, 0.5])


def expected_parameters(head, fusion, layer):
    """Trainable parameters, counted by hand from the definition of each part."""
    fused = {"concat": W + V, "concat_lift": 2 * W}.get(fusion, W)
    lift = V * W + W
    count = {"none": 0, "concat": 0, "sum": lift, "concat_lift": lift, "film": 2 * lift}[fusion]
    if head == "mlp":
        count += L if layer == "weighted" else 0
        for width in UNITS["mlp"]:
            count += fused * width + width + 2 * width  # dense, batch normalisation
            fused = width
    else:
        width, feed_forward = UNITS["transformer"]["width"], UNITS["transformer"]["feed_forward"]
        block = 4 * (width * width + width) + 2 * 2 * width  # attention, two layer norms
        block += width * feed_forward + feed_forward + feed_forward * width + width
        count += fused * width + width + UNITS["transformer"]["layers"] * block + 2 * width
        fused = width
    return count + fused * 3 + 3


CASES = [("mlp", fusion, layer) for fusion, layer in itertools.product(FUSIONS, ["weighted", 1])]
CASES += [("transformer", fusion, None) for fusion in FUSIONS]


@pytest.mark.parametrize(("head", "fusion", "layer"), CASES)
def test_parameter_counts(head, fusion, layer):
    model = build(head=head, fusion=fusion, layer=layer)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == expected_parameters(head, fusion, layer)


def test_no_fusion_or_head_of_the_schema_goes_uncounted():
    from pathlib import Path

    import yaml

    schema = yaml.safe_load((Path(__file__).parents[2] / "rules" / "config.schema.yaml").read_text())
    options = schema["properties"]["ablations"]["items"]["properties"]
    assert {case[1] for case in CASES} | {"attention"} == set(options["fusion"]["enum"])  # that is in test_companions
    assert {case[0] for case in CASES} == set(options["head"]["enum"])


def inputs(head, fusion, layer="weighted", batch=4, seed=0):
    rng = np.random.default_rng(seed)
    shape = (batch, T, W) if head == "transformer" else (batch, L, W) if layer == "weighted" else (batch, W)
    values = {"features": rng.standard_normal(shape).astype(np.float32)}
    if fusion != "none":
        values["speaker"] = rng.standard_normal((batch, V)).astype(np.float32)
    if head == "transformer":
        values["n_frames"] = np.array([[T], [3], [1], [5]], np.int32)[:batch]
    return values


def weights(model, name):
    return [v.numpy() for v in find_layer(model, name).trainable_variables]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fused_vector_is_the_definition(fusion):
    """The fusion written out again in NumPy; 1e-5 is float32 rounding over sums of 20 terms."""
    model = build(fusion=fusion)
    rng = np.random.default_rng(1)
    mean, variance = rng.standard_normal((L, W)), rng.uniform(0.5, 2, (L, W))
    set_statistics(model, "standardise_features", mean, variance)
    logits = rng.standard_normal(L).astype(np.float32)
    model.get_layer("layer_mix").logits.assign(logits)
    item = inputs("mlp", fusion)
    x = np.einsum("blw,l->bw", (item["features"] - mean) / np.sqrt(variance), softmax(logits))
    if fusion != "none":
        speaker_mean, speaker_variance = rng.standard_normal(V), rng.uniform(0.5, 2, V)
        set_statistics(model, "standardise_speaker", speaker_mean, speaker_variance)
        s = (item["speaker"] - speaker_mean) / np.sqrt(speaker_variance)
        dense = lambda name: s @ weights(model, name)[0] + weights(model, name)[1]  # noqa: E731
        x = {
            "sum": lambda: x + dense("lift"),
            "concat": lambda: np.concatenate([x, s], axis=1),
            "concat_lift": lambda: np.concatenate([x, dense("lift")], axis=1),
            "film": lambda: x * dense("film_scale") + dense("film_shift"),
        }[fusion]()
    np.testing.assert_allclose(model(item)["fused"], x, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_padding_changes_nothing(fusion):
    """Frames beyond n_frames, whatever they hold, leave outputs as they are (1e-5: float32 sums in another order)."""
    model = build(head="transformer", fusion=fusion)
    item = inputs("transformer", fusion)
    padded = dict(item)
    noise = np.random.default_rng(9).standard_normal((4, 5, W)).astype(np.float32) * 50
    padded["features"] = np.concatenate([item["features"], noise], axis=1)
    for row, n in enumerate(item["n_frames"][:, 0]):
        padded["features"][row, n:] = 50
    for key in ("labels", "fused"):
        np.testing.assert_allclose(model(padded)[key], model(item)[key], atol=1e-5)


def test_fused_frames_are_averaged_over_an_utterances_own(fusion="sum"):
    model = build(head="transformer", fusion=fusion)
    item = inputs("transformer", fusion)
    lift = item["speaker"] @ weights(model, "lift")[0] + weights(model, "lift")[1]
    for row, n in enumerate(item["n_frames"][:, 0]):
        expected = item["features"][row, :n].mean(axis=0) + lift[row]
        np.testing.assert_allclose(model(item)["fused"][row], expected, atol=1e-5)


def test_a_constant_feature_is_only_centred():
    model = build(layer=1)
    set_statistics(model, "standardise_features", np.full(W, 2.0), np.zeros(W))
    x = np.full((1, W), 2.5, np.float32)
    np.testing.assert_allclose(model({"features": x})["fused"], np.full((1, W), 0.5))


def test_joined_heads_answer_as_the_single_ones_and_survive_saving(tmp_path):
    heads = [
        build_head(settings(fusion="sum"), n_layers=L, width=W, label_mean=[m], label_sd=[1.0], name=name)
        for name, m in (("valence", 4.0), ("arousal", 3.0))
    ]
    item = inputs("mlp", "sum")
    joined = join_heads(heads)
    joined.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    for key in ("labels", "fused"):
        expected = np.concatenate([head(item)[key] for head in heads], axis=1)
        np.testing.assert_array_equal(joined(item)[key], expected)
        np.testing.assert_array_equal(loaded(item)[key], expected)


def test_ccc_loss_is_one_minus_ccc():
    """Against the formula written out with NumPy's own weighted covariance (ddof 0); 1e-6 is float32."""
    rng = np.random.default_rng(3)
    y, p = rng.normal(4, 1, (50, 2)), rng.normal(4, 1, (50, 2))
    for weights in (np.ones(50), rng.uniform(0.1, 3, 50)):
        expected = []
        for i in range(2):
            c = np.cov(y[:, i], p[:, i], ddof=0, aweights=weights)
            distance = np.average(y[:, i], weights=weights) - np.average(p[:, i], weights=weights)
            expected.append(1 - 2 * c[0, 1] / (c[0, 0] + c[1, 1] + distance**2))
        loss = ccc_loss(*(tf.constant(x, tf.float32) for x in (y, p, weights[:, None])))
        assert float(loss) == pytest.approx(np.mean(expected), abs=1e-6)


def test_ccc_loss_of_constant_labels_has_a_finite_gradient():
    p = tf.Variable(tf.ones((8, 1)))
    with tf.GradientTape() as tape:
        loss = ccc_loss(tf.ones((8, 1)), p, tf.ones((8, 1)))
    assert np.isfinite(loss) and np.isfinite(tape.gradient(loss, p)).all()


@pytest.mark.parametrize(("head", "fusion", "layer"), [("mlp", "film", "weighted"), ("mlp", "none", 1), CASES[-1]])
def test_heads_applied_together_give_what_each_gives(head, fusion, layer):
    """Of heads joined from two, with layer weights of their own; on float16 features, as they are stored."""
    rng, joined = np.random.default_rng(0), []
    shape = (W,) if head == "transformer" or layer != "weighted" else (L, W)
    mean, variance = rng.normal(size=shape), rng.uniform(0.5, 2, shape)
    for _ in range(2):
        options = {"n_layers": L, "width": W, "label_mean": [4.0], "label_sd": [1.0]}
        parts = [build_head(settings(head, fusion, layer), name=name, **options) for name in ("a", "b")]
        for part in parts:
            set_statistics(part, "standardise_features", mean, variance)
            if layer == "weighted":
                part.get_layer("layer_mix").logits.assign(rng.normal(size=L))
        joined.append(join_heads(parts))
    item = inputs(head, fusion, layer) | {"unused": np.zeros(4)}
    item = {key: tf.constant(value, "float16" if key == "features" else value.dtype) for key, value in item.items()}
    outputs = apply_together(joined)(item, training=False)
    for model, output in zip(joined, outputs, strict=True):
        alone = model({x.name: tf.cast(item[x.name], x.dtype) for x in model.inputs})
        assert output["labels"].shape == (4, 2)
        for key in ("labels", "fused"):
            np.testing.assert_allclose(output[key], alone[key], rtol=1e-5, atol=1e-6)  # sums in another order
    assert not np.allclose(outputs[0]["labels"], outputs[1]["labels"])
