"""Heads: speaker information fused with the encoder's features, and a regressor on top (Keras 3 models).

The MLP is the paper's "interpreter" (Tran, Yin and Soleymani, Interspeech 2023, section 3.1).
"""

import keras
from keras import layers, ops

from ser.config.ablation import Ablation

REST = "rest"  # the part of a head that sees one layer
# Of the batch normalisation's averages: Keras' own on features that stay as they are. Tuning takes few steps, moves the
# features all the while and chooses its epoch by these averages, so they have to follow: torch's, as in the paper.
MOMENTUM = {False: 0.99, True: 0.9}


@keras.saving.register_keras_serializable(package="ser")
class LayerMix(layers.Layer):
    """Softmax-weighted sum over the encoder's layers: (..., L, W) -> (..., W); starts as their mean."""

    def build(self, shape):
        self.logits = self.add_weight(shape=(shape[-2],), initializer="zeros", name="logits")

    def call(self, x):
        weights = ops.reshape(ops.softmax(self.logits), (1,) * (len(x.shape) - 1) + (-1,))
        return ops.squeeze(ops.matmul(weights, x), -2)  # (1, 1, L), (B, L, W) -> (B, W)


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


@keras.saving.register_keras_serializable(package="ser")
class Attend(layers.Layer):
    """What an utterance finds in others of its speaker, to be added to it: (B, W), (B, K, W), (B, K) -> (B, W).

    One attention layer, after Triantafyllopoulos et al., "Enrolment-based personalisation for improving
    individual-level fairness in speech emotion recognition" (Interspeech 2024). Others that are not `known` (0, not 1)
    are not looked at; where there is none, nothing is found. Its values start at zero, so that training starts without.
    """

    def __init__(self, size: int = 64, **options):
        super().__init__(**options)
        self.size = size

    def build(self, shape, *_):
        for name, size, initializer in (("query", self.size, None), ("key", self.size, None), ("value", 0, "zeros")):
            size, initializer = size or shape[-1], initializer or "glorot_uniform"
            setattr(self, name, self.add_weight(shape=(shape[-1], size), initializer=initializer, name=name))

    def call(self, x, others, known):
        query = ops.matmul(x, self.query)[:, None]  # (B, 1, size)
        scores = ops.sum(query * ops.matmul(others, self.key), -1) / self.size**0.5  # (B, K)
        weights = ops.softmax(scores + 1e9 * (known - 1)) * known
        return ops.matmul(ops.matmul(weights[:, None], others)[:, 0], self.value)  # (B, 1, K), (B, K, W) -> (B, W)

    def get_config(self):
        return super().get_config() | {"size": self.size}


def build_head(
    ablation: Ablation,
    *,
    n_layers: int,
    width: int,
    label_mean: list[float],
    label_sd: list[float],
    speaker_width: int = 13,
    name: str = "head",
) -> keras.Model:
    """An untrained model of an ablation, for as many targets as there are label means.

    Inputs, by name: `features`, (B, L, W) pooled layers where the ablation learns layer weights, (B, W) of one layer,
    or (B, T, W) padded frames with `n_frames`, (B, 1), for a transformer head; `speaker`, (B, V), the speaker's
    vector, where it reads one; `others`, K utterances as `features` are, (B, K, ...), and `known`, (B, K), 1 for each
    that there is, where it looks at them. Outputs, by name: `labels`, (B, targets) on the labels' own scale; `fused`,
    the representation that is regressed, averaged over time, (B, W) or wider: what PLDC compares.

    `standardise_features` and `standardise_speaker` need the training data's statistics: `set_statistics`.
    """
    frames, layer_mix = ablation.reads_frames, ablation.layer == "weighted"
    shape = (None, width) if frames else (n_layers, width) if layer_mix else (width,)
    inputs = {"features": layers.Input(shape, name="features")}
    if ablation.reads_speakers:
        inputs["speaker"] = layers.Input((speaker_width,), name="speaker")
    if frames:
        inputs["n_frames"] = layers.Input((1,), dtype="int32", name="n_frames")
    seen = {"features": inputs["features"]}
    if ablation.attended:
        inputs["others"] = seen["others"] = layers.Input((ablation.attended, *shape), name="others")
        inputs["known"] = layers.Input((ablation.attended,), name="known")
    standardise = layers.Normalization(axis=(1, 2) if layer_mix else -1, name="standardise_features")
    mix = LayerMix(name="layer_mix") if layer_mix else lambda x: x
    seen = {key: mix(standardise(x)) for key, x in seen.items()}
    rest = _build_rest(ablation, seen["features"].shape[1:], inputs | seen, label_mean, label_sd)
    return keras.Model(inputs, rest(inputs | seen), name=name)


def _build_rest(ablation: Ablation, shape: tuple, inputs: dict, label_mean: list[float], label_sd: list[float]):
    """What comes after standardised features of one layer, (B, W) or (B, T, W): a model of its own within the head."""
    inputs = {key: layers.Input(x.shape[1:], dtype=x.dtype, name=key) for key, x in inputs.items()}
    x = inputs["features"] = layers.Input(shape, name="features")
    frames = ablation.reads_frames
    if "speaker" in inputs:
        speaker = layers.Normalization(axis=-1, name="standardise_speaker")(inputs["speaker"])
        x = _fuse(x, speaker, ablation.fusion, shape[-1], frames)
    if ablation.attended:
        x = layers.Add(name="fusion")([x, Attend(name="attend")(x, inputs["others"], inputs["known"])])
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

    def see(x) -> list:
        """Features, (B, L, W) or (B, W), or those of others, (B, K, ...), as each part sees them: one layer."""
        x = standardise(ops.cast(x, "float32"))
        if not mixes:
            return [x] * len(parts)
        weights = ops.softmax(ops.stack([mix.logits.value for mix in mixes]))  # (parts, L)
        weights = ops.reshape(weights, (1,) * (len(x.shape) - 2) + tuple(weights.shape))
        return ops.unstack(ops.matmul(weights, x), axis=-2)  # (1, parts, L), (B, L, W) -> parts of (B, W)

    def apply(item: dict, training: bool) -> list[dict]:
        seen = {key: see(item[key]) for key in ("features", "others") if key in item}
        outputs = []
        for number, part in enumerate(parts):
            own = {key: parts_seen[number] for key, parts_seen in seen.items()}
            own = {x.name: item[x.name] for x in part.inputs if x.name not in own} | own
            outputs.append(part.get_layer(REST)(own, training=training))
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
    """Set mean and variance, (L, W) or (W,), of a standardising layer; a constant feature is only centred."""
    layer = find_layer(head, name)
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(ops.where(ops.convert_to_tensor(variance) > 1e-10, variance, 1.0))
    layer.finalize_state()


def _fuse(x, speaker, fusion: str, width: int, frames: bool):
    """Fuse features, (B, W) or (B, T, W), with a standardised speaker vector, (B, V)."""

    def join(vector):  # (B, T, W), (B, V) -> (B, T, W + V)
        vector = RepeatOverTime(name="repeat")(vector, x) if frames else vector
        return layers.Concatenate(name="fusion")([x, vector])

    def lift(name, **options):  # (B, V) -> (B, W), or (B, 1, W) beside frames
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
