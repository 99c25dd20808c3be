"""The `config.json` of an encoder of `families`: the keys that decide it, each within what such an encoder can be.

Everything else that a config may hold (code of its own, kernels, quantisation, other files, heads) is left out, and
what would not fit a machine is refused before anything is built of it.
"""

import logging
import math
from itertools import pairwise
from pathlib import Path

import transformers
from transformers import PreTrainedConfig

from ser.audio.frames import HOP, WINDOW
from ser.files import DataError, read_json
from ser.formats.encoder_families import FAMILIES, read_family

log = logging.getLogger(__name__)

MOST_PARAMETERS = 4_000_000_000  # the largest that was published, XLS-R, has half of it
INTEGERS = {
    "hidden_size": (1, 16_384),
    "num_hidden_layers": (1, 256),
    "num_attention_heads": (1, 256),
    "intermediate_size": (1, 65_536),
    "num_conv_pos_embeddings": (1, 4_096),
    "num_conv_pos_embedding_groups": (1, 4_096),
    "conv_pos_kernel_size": (1, 4_096),
    "num_buckets": (4, 65_536),
    "max_bucket_distance": (2, 1_000_000),
    "mask_time_length": (1, 10_000),
    "mask_time_min_masks": (0, 10_000),
    "mask_feature_length": (1, 10_000),
    "mask_feature_min_masks": (0, 10_000),
}
LISTS = {"conv_dim": (1, 16_384), "conv_stride": (1, 320), "conv_kernel": (1, 1_024)}  # one for each convolution
MOST_CONVOLUTIONS = 32
SHARES = ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout")
SHARES += ("layerdrop", "mask_time_prob", "mask_feature_prob")
POSITIVE = ("layer_norm_eps", "initializer_range")  # up to 1
SWITCHES = ("feat_proj_layer_norm", "conv_bias", "conv_pos_batch_norm", "do_stable_layer_norm", "apply_spec_augment")
WIDTHS = {"adapter_attn_dim": (1, 16_384)}  # of parts that an encoder may be without: null
CHOICES = {
    "hidden_act": ("gelu",),
    "feat_extract_activation": ("gelu",),
    "feat_extract_norm": ("group", "layer"),
}


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a folder; a DataError names the file and key of what no encoder of the engine has.

    Masking in training and layers that are left out by chance are off, whatever the checkpoint was trained with.
    """
    path, kind = folder / "config.json", read_family(folder)
    if kind not in FAMILIES:
        raise DataError(f"{path}: model_type is {kind!r}, expected one of {', '.join(FAMILIES)}")
    values = read_json(path)
    if values.get("auto_map"):
        log.warning("%s: auto_map names code of the model's own, which is not run", path)
    config_class = getattr(transformers, f"{FAMILIES[kind]}Config")
    defaults = config_class().to_dict()
    known = {*INTEGERS, *WIDTHS, *LISTS, *SHARES, *POSITIVE, *SWITCHES, *CHOICES} & set(defaults)
    kept = {key: value for key, value in values.items() if key in known}
    for key, value in kept.items():
        if expected := _find_fault(key, value):
            raise DataError(f"{path}: {key} is {str(value)[:100]!r}, expected {expected}")
    # Defaults are known to fit; the rest is checked before transformers sees it.
    _check_shape(path, defaults | kept)
    kept |= {"apply_spec_augment": False, "layerdrop": 0.0}
    if not kept.get("mask_time_prob", defaults["mask_time_prob"]):
        kept["mask_time_prob"] = defaults[
            "mask_time_prob"
        ]  # at 0 a model has no vector of masked frames, which TAPT uses
    try:
        return config_class.from_dict(kept)
    except Exception as error:  # the classes of errors differ between transformers' validators
        raise DataError(f"{path}: is no configuration of {kind}: {error}") from error


def describe_masking(folder: Path) -> str:
    """What the checkpoint's configuration would mask or leave out in training, which nothing here does."""
    values = read_json(folder / "config.json")
    keys = ("mask_time_prob", "mask_feature_prob") if values.get("apply_spec_augment", True) else ()
    asked = {key: values.get(key) for key in (*keys, "layerdrop")}
    named = ", ".join(f"{key} {value}" for key, value in asked.items() if isinstance(value, float) and value)
    return f"off in training (the checkpoint's configuration has {named})" if named else "off in training"


def _find_fault(key: str, value) -> str | None:
    """What was expected, where a value is something else."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    number = whole or isinstance(value, float)
    if key in INTEGERS:
        low, high = INTEGERS[key]
        return None if whole and low <= value <= high else f"an integer from {low} to {high}"
    if key in WIDTHS:
        low, high = WIDTHS[key]
        return None if value is None or (whole and low <= value <= high) else f"null or an integer from {low} to {high}"
    if key in LISTS:
        low, high = LISTS[key]
        fit = isinstance(value, list) and 1 <= len(value) <= MOST_CONVOLUTIONS
        fit = fit and all(isinstance(each, int) and low <= each <= high for each in value)
        return None if fit else f"a list of integers from {low} to {high}, {MOST_CONVOLUTIONS} at most"
    if key in SHARES:
        return None if number and 0 <= value <= 1 else "a number from 0 to 1"
    if key in POSITIVE:
        return None if number and 0 < value <= 1 else "a number above 0, at most 1"
    if key in SWITCHES:
        return None if isinstance(value, bool) else "true or false"
    allowed = CHOICES[key]
    return None if value in allowed else f"{' or '.join(map(repr, allowed))}"


def _check_shape(path: Path, shape: dict) -> None:
    """Raise DataError for sizes that do not fit each other, or a machine."""
    width, layers, kernels, groups = (
        shape[key] for key in ("hidden_size", "num_hidden_layers", "conv_kernel", "num_conv_pos_embedding_groups")
    )
    if len({len(shape[key]) for key in LISTS}) > 1:
        raise DataError(f"{path}: conv_dim, conv_stride and conv_kernel differ in length: one convolution has one each")
    if math.prod(shape["conv_stride"]) != HOP:
        raise DataError(f"{path}: conv_stride multiplies to {math.prod(shape['conv_stride'])}, expected {HOP} (50 Hz)")
    seen = 1
    for kernel, stride in zip(reversed(kernels), reversed(shape["conv_stride"]), strict=True):
        seen = (seen - 1) * stride + kernel
    if seen != WINDOW:
        raise DataError(f"{path}: conv_kernel makes a frame of {seen} samples, expected {WINDOW} (25 ms)")
    if width % shape["num_attention_heads"]:
        raise DataError(f"{path}: hidden_size {width} is no multiple of num_attention_heads")
    if width % groups:
        raise DataError(f"{path}: hidden_size {width} is no multiple of num_conv_pos_embedding_groups")
    if shape.get("num_buckets", 4) // 4 >= shape.get("max_bucket_distance", 2):
        raise DataError(f"{path}: max_bucket_distance is not above a quarter of num_buckets")
    widths, widest = [1, *shape["conv_dim"]], shape["intermediate_size"] + (shape.get("adapter_attn_dim") or 0)
    convolutions = sum(a * b * kernel for (a, b), kernel in zip(pairwise(widths), kernels, strict=True))
    position = width * width // groups * shape["num_conv_pos_embeddings"] * shape.get("conv_pos_kernel_size", 1)
    parameters = convolutions + position + layers * width * (4 * width + 2 * widest)
    if parameters > MOST_PARAMETERS:
        raise DataError(f"{path}: makes a model of {parameters:.2g} parameters, expected {MOST_PARAMETERS:.0g} at most")
