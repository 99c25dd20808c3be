"""Heads: speaker information fused with the encoder's features, and a regressor on top (Keras 3 models).

The MLP is the paper's "interpreter" (Tran, Yin and Soleymani, Interspeech 2023, section 3.1).
"""

import keras
from keras import layers, ops

from ser.config.ablation import Ablation

N_MFCC = 13
REST = "rest"  # the part of a head that sees one layer
# Of the batch normalisation's averages: Keras' own on features that stay as they are. Tuning takes few steps, moves the
# features all the while and chooses its epoch by these averages, so they have to follow: torch's, as in the paper.
MOMENTUM = {False: 0.99, True: 0.9}


@keras.saving.register_keras_serializable(package="ser")
class LayerMix(layers.Layer):
    """Softmax-weighted sum over the encoder's layers: (B, L, W) -> (B, W); starts as their mean."""

    def build(self, shape):
        self.logits = self.add_weight(shape=(shape[1],), initializer="zeros", name="logits")

    def call(self, x):
        return ops.squeeze(ops.matmul(ops.softmax(self.logits)[None, None], x), 1)  # (1, 1, L), (B, L, W) -> (B, W)


@keras.saving.register_keras_serializable(package="ser")
class FrameMask(layers.Layer):
    """True for the frames that are an utterance's own: (B, T, W), (B, 1) -> (B, T)."""

    def call(self, frames, n_frames):
        return ops.arange(ops.shape(frames)[1])[None, :] < n_frames  # (1, T) < (B, 1) -> (B, T)


@keras.saving.register_keras_serializable(package="ser")
class RepeatOverTime(layers.Layer):
    """A vector beside every frame: (B, V), (B, T, W) -> (B, T, V)."""

    def call(self, vector, frames):
        return ops.repeat(vector[:, None, :], ops.shape(frames)[1], axis=1)


def build_head(
    ablation: Ablation, *, n_layers: int, width: int, label_mean: list[float], label_sd: list[float], name: str = "head"
) -> keras.Model:
    """An untrained model of an ablation, for as many targets as there are label means.

    Inputs, by name: `features`, (B, L, W) pooled layers where the ablation learns layer weights, (B, W) of one layer,
    or (B, T, W) padded frames with `n_frames`, (B, 1), for a transformer head; `speaker`, (B, 13) averaged MFCCs,
    where it uses speaker information. Outputs, by name: `labels`, (B, targets) on the labels' own scale; `fused`,
    the representation that is regressed, averaged over time, (B, W) or wider: what PLDC compares.

    `standardise_features` and `standardise_speaker` need the training data's statistics: `set_statistics`.
    """
    frames, layer_mix = ablation.reads_frames, ablation.layer == "weighted"
    shape = (None, width) if frames else (n_layers, width) if layer_mix else (width,)
    inputs = {"features": layers.Input(shape, name="features")}
    if ablation.reads_speakers:
        inputs["speaker"] = layers.Input((N_MFCC,), name="speaker")
    if frames:
        inputs["n_frames"] = layers.Input((1,), dtype="int32", name="n_frames")
    x = layers.Normalization(axis=(1, 2) if layer_mix else -1, name="standardise_features")(inputs["features"])
    x = LayerMix(name="layer_mix")(x) if layer_mix else x
    rest = _build_rest(ablation, x.shape[1:], inputs, label_mean, label_sd)
    return keras.Model(inputs, rest(inputs | {"features": x}), name=name)


def _build_rest(ablation: Ablation, shape: tuple, inputs: dict, label_mean: list[float], label_sd: list[float]):
    """What comes after standardised features of one layer, (B, W) or (B, T, W): a model of its own within the head."""
    inputs = {key: layers.Input(x.shape[1:], dtype=x.dtype, name=key) for key, x in inputs.items()}
    x = inputs["features"] = layers.Input(shape, name="features")
    frames = ablation.reads_frames
    if "speaker" in inputs:
        speaker = layers.Normalization(axis=-1, name="standardise_speaker")(inputs["speaker"])
        x = _fuse(x, speaker, ablation.fusion, shape[-1], frames)
    dropout, n_targets = ablation.training["dropout"], len(label_mean)
    if frames:
        mask = FrameMask(name="mask")(x, inputs["n_frames"])
        fused = layers.GlobalAveragePooling1D(name="fused")(x, mask=mask)
        outputs = _transform(x, mask, ablation.units, dropout, n_targets)
    else:
        fused = layers.Identity(name="fused")(x)
        outputs = _interpret(fused, ablation.units, dropout, n_targets, MOMENTUM[bool(ablation.finetune)])
    # An affine map onto the labels' mean and spread, so that training starts on their scale.
    labels = layers.Rescaling(list(label_sd), list(label_mean), name="labels")(outputs)
    return keras.Model(inputs, {"labels": labels, "fused": fused}, name=REST)


def join_heads(heads: list[keras.Model]) -> keras.Model:
    """One model of several heads with the same inputs (one a target): their labels and fused vectors side by side."""
    if len(heads) == 1:
        return heads[0]
    inputs = {x.name: layers.Input(x.shape[1:], dtype=x.dtype, name=x.name) for x in heads[0].inputs}
    outputs = [head(inputs) for head in heads]
    return keras.Model(
        inputs,
        {key: layers.Concatenate(name=key)([output[key] for output in outputs]) for key in ("labels", "fused")},
        name="heads",
    )


def apply_together(heads: list[keras.Model]):
    """A function that applies heads of one ablation to a batch and gives a list of what each would give by itself.

    Features are standardised once, by the statistics that all heads share, and layers mixed for all in one product:
    both are most of the work, because there a batch has all layers.
    """
    parts = [part for head in heads for part in list_parts(head)]
    size = len(parts) // len(heads)  # parts of a head
    standardise = parts[0].get_layer("standardise_features")
    mixes = [layer for part in parts for layer in part.layers if isinstance(layer, LayerMix)]

    def apply(item: dict, training: bool) -> list[dict]:
        x = standardise(ops.cast(item["features"], "float32"))
        own = [x] * len(parts)
        if mixes:
            weights = ops.softmax(ops.stack([mix.logits.value for mix in mixes]))  # (parts, L)
            own = ops.unstack(ops.matmul(weights[None], x), axis=1)  # (1, parts, L), (B, L, W) -> parts of (B, W)
        outputs = []
        for part, features in zip(parts, own, strict=True):
            others = {x.name: item[x.name] for x in part.inputs if x.name != "features"}
            outputs.append(part.get_layer(REST)(others | {"features": features}, training=training))
        return [_join(outputs[i : i + size]) for i in range(0, len(outputs), size)]

    return apply


def list_parts(head: keras.Model) -> list[keras.Model]:
    """The heads that `join_heads` joined."""
    return [layer for layer in head.layers if isinstance(layer, keras.Model) and layer.name != REST] or [head]


def _join(outputs: list[dict]) -> dict:
    if len(outputs) == 1:
        return outputs[0]
    return {key: ops.concatenate([output[key] for output in outputs], 1) for key in outputs[0]}


def find_layer(head: keras.Model, name: str) -> layers.Layer:
    """A layer of a head, or of its part that sees one layer."""
    rest = head.get_layer(REST)
    return next(layer for layer in head.layers + rest.layers if layer.name == name)


def set_statistics(head: keras.Model, name: str, mean, variance) -> None:
    """Set mean and variance, (L, W), (W,) or (13,), of a standardising layer; a constant feature is only centred."""
    layer = find_layer(head, name)
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(ops.where(ops.convert_to_tensor(variance) > 1e-10, variance, 1.0))
    layer.finalize_state()


def _fuse(x, speaker, fusion: str, width: int, frames: bool):
    """Fuse features, (B, W) or (B, T, W), with a standardised speaker vector, (B, 13)."""

    def join(vector):  # (B, T, W), (B, V) -> (B, T, W + V)
        vector = RepeatOverTime(name="repeat")(vector, x) if frames else vector
        return layers.Concatenate(name="fusion")([x, vector])

    def lift(name, **options):  # (B, 13) -> (B, W), or (B, 1, W) beside frames
        lifted = layers.Dense(width, name=name, **options)(speaker)
        return layers.Reshape((1, width), name=f"{name}_over_time")(lifted) if frames else lifted

    if fusion == "sum":
        return layers.Add(name="fusion")([x, lift("lift")])
    if fusion == "film":
        scaled = layers.Multiply(name="scaled")([x, lift("film_scale", bias_initializer="ones")])
        return layers.Add(name="fusion")([scaled, lift("film_shift")])
    if fusion == "concat_lift":
        return join(layers.Dense(width, name="lift")(speaker))
    return join(speaker)


def _interpret(x, units: list[int], dropout: float, n_targets: int, momentum: float):
    """The paper's interpreter: (dense, ReLU, dropout, batch normalisation) a width, then a dense output."""
    for i, width in enumerate(units):
        x = layers.Dense(width, activation="relu", name=f"dense_{i}")(x)
        x = layers.Dropout(dropout, name=f"dropout_{i}")(x)
        x = layers.BatchNormalization(momentum=momentum, name=f"batch_norm_{i}")(x)
    return layers.Dense(n_targets, name="out")(x)


def _transform(x, mask, units: dict, dropout: float, n_targets: int):
    """A pre-norm Transformer encoder over frames, averaged over time, with a dense output.

    It adds no positions: HuBERT's frames carry them already (its convolutional position embedding).
    """
    width, heads = units["width"], units["attention_heads"]
    attention_mask = layers.Reshape((1, -1), name="attention_mask")(mask)  # (B, T) -> (B, 1, T): no key is padding
    x = layers.Dense(width, name="in")(x)  # (B, T, W) -> (B, T, width)
    for i in range(units["layers"]):
        attention = layers.MultiHeadAttention(heads, width // heads, dropout=dropout, name=f"attention_{i}")
        y = layers.LayerNormalization(name=f"attention_norm_{i}")(x)
        y = attention(y, y, attention_mask=attention_mask)
        x = layers.Add(name=f"attended_{i}")([x, layers.Dropout(dropout, name=f"attention_dropout_{i}")(y)])
        y = layers.LayerNormalization(name=f"dense_norm_{i}")(x)
        y = layers.Dense(units["feed_forward"], activation="gelu", name=f"widen_{i}")(y)
        y = layers.Dense(width, name=f"narrow_{i}")(y)
        x = layers.Add(name=f"block_{i}")([x, layers.Dropout(dropout, name=f"dense_dropout_{i}")(y)])
    x = layers.LayerNormalization(name="out_norm")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x, mask=mask)  # (B, T, width) -> (B, width)
    return layers.Dense(n_targets, name="out")(layers.Dropout(dropout, name="out_dropout")(x))
