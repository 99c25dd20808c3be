"""The plain way: any other audio encoder, run by transformers itself, one utterance at a time.

What `families` does not have: w2v-BERT 2.0, SEW, Whisper's encoder, and whatever else `AutoModel` knows that takes
audio and has hidden states. No code of a model's own is run. It can be embedded with, not trained further.
"""

import inspect
import json
import logging
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoFeatureExtractor, PreTrainedConfig, PreTrainedModel, SequenceFeatureExtractor

from ser.audio.frames import SAMPLE_RATE
from ser.encoders.encoder_config import MOST_PARAMETERS
from ser.encoders.preprocessor import read_settings
from ser.encoders.weights import load_model
from ser.files import DataError, read_json
from ser.formats.encoder_families import FAMILIES

log = logging.getLogger(__name__)

INPUTS = ("input_values", "input_features")  # what a model of audio takes
MOST_LAYERS, MOST = 256, 1_000_000  # of numbers in a configuration
# Keys that name code, other files or kernels, or that say nothing of the encoder.
LEFT_OUT = {"auto_map", "quantization_config", "architectures", "dtype", "torch_dtype", "transformers_version"}
LEFT_OUT |= {"id2label", "label2id", "processor_class", "transformers_weights"}


def read_plain_config(folder: Path) -> PreTrainedConfig:
    """The configuration of an encoder of no family; a DataError names the file and key of what cannot be used."""
    path = folder / "config.json"
    values = read_json(path)
    kind = values.get("model_type") if isinstance(values, dict) else None
    known = f"{', '.join(FAMILIES)}, or an audio encoder that transformers {transformers.__version__} has"
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        raise DataError(f"{path}: model_type is {str(kind)[:100]!r}, expected one of {known}")
    config_class = transformers.CONFIG_MAPPING[kind]
    if config_class not in transformers.MODEL_MAPPING or _model_class(config_class).main_input_name not in INPUTS:
        raise DataError(f"{path}: model_type is {kind!r}, which takes no audio, expected one of {known}")
    if values.get("auto_map"):
        log.warning("%s: auto_map names code of the model's own, which is not run", path)
    kept = _keep(path, {key: value for key, value in values.items() if key in config_class().to_dict()})
    try:
        config = config_class(**kept)
        with torch.device("meta"):  # shapes alone
            parameters = sum(tensor.numel() for tensor in _audio_class(config)(config).parameters())
    except Exception as error:  # whatever a model's own code finds wrong
        raise DataError(f"{path}: is no configuration of {kind}: {str(error)[:200]}") from error
    if parameters > MOST_PARAMETERS:
        raise DataError(f"{path}: makes a model of {parameters:.2g} parameters, expected {MOST_PARAMETERS:.0g} at most")
    return config


def load_plain(folder: Path, config: PreTrainedConfig) -> tuple[PreTrainedModel, SequenceFeatureExtractor, list[str]]:
    """The part of a model that hears, its feature extractor, and which parts of the checkpoint were left out."""
    extractor = _read_extractor(folder, config)
    model, unused = load_model(folder, _audio_class(config), config)
    return model, extractor, unused


def describe_plain(model: PreTrainedModel, extractor: SequenceFeatureExtractor) -> dict:
    """What a card says of its shape, found by running it on 1 and 2 s of noise.

    Raises DataError for an encoder whose hidden states are of several sizes, or whose frames do not follow the audio.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
    short, long = (run(model, extractor, wave) for wave in (noise[:SAMPLE_RATE], noise))
    rate = long.shape[1] - short.shape[1]
    if rate < 1:
        raise DataError(f"{type(model).__name__}: its frames do not follow the audio's length, so none can be averaged")
    return {
        "layers": len(short) - 1,
        "width": short.shape[2],
        "frame_rate": rate,
        "architecture": f"{type(model).__name__}, run by transformers",
    }


@torch.inference_mode()
def run(model: PreTrainedModel, extractor: SequenceFeatureExtractor, wave: np.ndarray) -> torch.Tensor:
    """The hidden states of one utterance's own frames, (layers + 1, frames, width): none of what it was padded with."""
    options = {"sampling_rate": SAMPLE_RATE, "return_tensors": "pt", "return_attention_mask": True}
    given = extractor(wave, **options)
    mask = given.get("attention_mask")
    inputs = {name: given[name].to(model.device, model.dtype) for name in INPUTS if name in given}
    if mask is not None and not mask.all() and "attention_mask" in inspect.signature(model.forward).parameters:
        inputs["attention_mask"] = mask.to(model.device)
    try:
        states = model(**inputs, output_hidden_states=True).hidden_states
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        why = str(error).splitlines()[0][:200]
        raise DataError(f"{type(model).__name__}: cannot be run on {len(wave)} samples: {why}") from error
    if not states or len({state.shape for state in states}) > 1:
        raise DataError(f"{type(model).__name__}: has no hidden states of one size, which a table of layers needs")
    frames = states[0].shape[1]
    if mask is not None:
        frames = math.ceil(int(mask.sum()) * frames / mask.shape[1])
    return torch.cat(states)[:, :frames]


def _model_class(config_class: type) -> type[PreTrainedModel]:
    found = transformers.MODEL_MAPPING[config_class]
    return found[0] if isinstance(found, tuple) else found


def _audio_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of what hears: of a model that also speaks or writes, its encoder."""
    model_class = _model_class(type(config))
    if not config.is_encoder_decoder:
        return model_class
    with torch.device("meta"):
        return type(model_class(config).get_encoder())


def _keep(path: Path, values: dict) -> dict:
    """The plain values of a configuration, each within what a machine can hold."""
    kept = {}
    for key, value in values.items():
        if key in LEFT_OUT or "attn_implementation" in key or isinstance(value, dict):
            continue
        numbers = value if isinstance(value, list) else [value]
        most = MOST_LAYERS if "layers" in key else MOST
        if len(numbers) > MOST_LAYERS or any(not _is_plain(number, most) for number in numbers):
            raise DataError(f"{path}: {key} is {str(value)[:100]!r}, expected numbers up to {most}, or a word")
        kept[key] = value
    return kept


def _is_plain(value, most: int) -> bool:
    if isinstance(value, str):
        return len(value) <= 100
    return value is None or (isinstance(value, int | float) and abs(value) <= most)


def _read_extractor(folder: Path, config: PreTrainedConfig) -> SequenceFeatureExtractor:
    found = read_settings(folder)
    if found is None:
        raise DataError(f"{folder}: has no preprocessor_config.json, which says what {config.model_type} hears")
    path, values = found
    if values.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise DataError(f"{path}: sampling_rate is {str(values['sampling_rate'])[:100]}, expected {SAMPLE_RATE}")
    with tempfile.TemporaryDirectory() as name:  # without what names code
        (Path(name) / "preprocessor_config.json").write_text(json.dumps(_keep(path, values)), encoding="utf-8")
        (Path(name) / "config.json").write_text(json.dumps({"model_type": config.model_type}), encoding="utf-8")
        try:
            extractor = AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False, local_files_only=True)
        except Exception as error:  # whatever a feature extractor's own code finds wrong
            raise DataError(f"{path}: is no feature extractor's configuration: {str(error)[:200]}") from error
    return extractor
