"""Encoders: any Hugging Face HuBERT, checked and brought into one form that the rest of the workflow can trust.

An encoder's folder holds `config.json`, `preprocessor_config.json`, `model.safetensors`, `card.json`, which says what
the weights came from, and `heard.txt`, the audio that they learned from (`past`). Nothing but configuration and
safetensors is read: no code runs, no pickle is opened.
"""

import logging
import math
from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from ser.audio.frames import HOP, SAMPLE_RATE
from ser.encoders import past
from ser.files import DataError, atomic, read_json, sha256, write_json, write_text

log = logging.getLogger(__name__)

HEAD = "adaptation.safetensors"  # what pre-training here learned beside the encoder
FILES = ["config.json", "preprocessor_config.json", "card.json", "model*.safetensors", "model.safetensors.index.json"]
FILES += [HEAD, past.NAME]


def prepare(base: str, revision: str | None, out_dir: str | Path) -> None:
    """Write the encoder `base` (a hub id, at `revision`, or a local folder) into `out_dir` in the workflow's form.

    Raises DataError, naming the folder and key, for what is no HuBERT, has no (or pickled only) or incomplete weights,
    or expects another sampling rate.
    """
    folder, commit = fetch(base, revision)
    model, extractor = load(folder)
    origin = read_origin(folder)
    save(
        model,
        extractor,
        out_dir,
        past.read_past(folder, base),
        base=base,
        revision=revision,
        commit=commit,
        weights="random-init" if (origin or {}).get("weights") == "random-init" else "pretrained",
        adaptation=(origin or {}).get("adaptation", "none"),
        origin=origin,
    )


def read_origin(folder: Path) -> dict | None:
    """The card of the encoder in a folder, which goes into the cards of those that are made of it; None without one."""
    return read_json(folder / "card.json") if (folder / "card.json").exists() else None


def save(
    model: HubertModel, extractor: Wav2Vec2FeatureExtractor, out_dir: str | Path, heard: past.Past, **facts
) -> None:
    """Write an encoder's files, the same bytes for the same model; `facts` open the card, which is written last."""
    out_dir = Path(out_dir)
    config = model.config
    heard.write(out_dir)
    config.architectures, config.dtype = ["HubertModel"], "float32"
    write_text(out_dir / "config.json", config.to_json_string())
    write_text(out_dir / "preprocessor_config.json", extractor.to_json_string())
    state = {name: tensor.detach().float().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic(out_dir / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    write_json(
        out_dir / "card.json",
        facts
        | {
            "heard": list(heard.told),
            "weights_sha256": sha256(out_dir / "model.safetensors"),
            "parameters": sum(tensor.numel() for tensor in state.values()),
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "architecture": f"{config.feat_extract_norm} norm, "
            f"{'pre' if config.do_stable_layer_norm else 'post'}-layer-norm Transformer",
            "transformers": transformers.__version__,
        },
    )


def load(folder: Path) -> tuple[HubertModel, Wav2Vec2FeatureExtractor]:
    """The model of a local folder, in evaluation mode, and what its input must be like; errors as in `prepare`."""
    config = _config(folder)
    extractor = _feature_extractor(folder)
    return _weights(folder, config), extractor


def fetch(base: str, revision: str | None) -> tuple[Path, str | None]:
    """A local folder with the encoder's files, and the commit where it comes from the hub."""
    if Path(base).is_dir():
        if revision is not None:
            raise DataError(f"encoder {base}: is a local folder, so its revision must be null, not {revision!r}")
        return Path(base), None
    try:
        folder = Path(snapshot_download(base, revision=revision, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise DataError(
            f"encoder {base}: is no local folder, and the Hugging Face hub does not give it{at}: {error}"
        ) from error
    return folder, folder.name


def _config(folder: Path) -> HubertConfig:
    path = folder / "config.json"
    if not path.exists():
        raise DataError(f"{folder}: has no config.json; expected a HuBERT in Hugging Face format")
    values = read_json(path)
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != "hubert":
        raise DataError(f"{path}: model_type is {kind!r}, expected 'hubert'")
    if values.pop("auto_map", None):
        log.warning("%s: auto_map names code of the model's own, which is not run", path)
    try:
        config = HubertConfig.from_dict(values)
    except Exception as error:  # the classes of errors differ between transformers' validators
        raise DataError(f"{path}: is no HuBERT configuration: {error}") from error
    for key, expected in {"hidden_act": "gelu", "feat_extract_activation": "gelu", "adapter_attn_dim": None}.items():
        if getattr(config, key, None) != expected:
            raise DataError(f"{path}: {key} is {getattr(config, key)!r}, expected {expected!r}, as in every HuBERT")
    if config.feat_extract_norm not in ("group", "layer"):
        raise DataError(f"{path}: feat_extract_norm is {config.feat_extract_norm!r}, expected 'group' or 'layer'")
    if math.prod(config.conv_stride) != HOP:
        raise DataError(f"{path}: conv_stride multiplies to {math.prod(config.conv_stride)}, expected {HOP} (50 Hz)")
    if config.hidden_size % config.num_attention_heads:
        raise DataError(f"{path}: hidden_size {config.hidden_size} is no multiple of num_attention_heads")
    return config


def _feature_extractor(folder: Path) -> Wav2Vec2FeatureExtractor:
    path = folder / "preprocessor_config.json"
    if not path.exists():
        log.warning("%s: has no preprocessor_config.json; using HuBERT's own: 16 kHz, do_normalize true", folder)
        return Wav2Vec2FeatureExtractor(do_normalize=True)
    values = read_json(path)
    for key, expected in {"sampling_rate": SAMPLE_RATE, "feature_size": 1}.items():
        if values.get(key, expected) != expected:
            raise DataError(f"{path}: {key} is {values[key]!r}, expected {expected}")
    if not isinstance(values.get("do_normalize", True), bool):
        raise DataError(f"{path}: do_normalize is {values['do_normalize']!r}, expected true or false")
    return Wav2Vec2FeatureExtractor(do_normalize=values.get("do_normalize", True))


def _weights(folder: Path, config: HubertConfig) -> HubertModel:
    """The model with every weight from the folder's safetensors; transformers alone would make up missing ones."""
    if not any(folder.glob("model*.safetensors")):
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.ckpt") for path in folder.glob(pattern))
        raise DataError(
            f"{folder}: has no model.safetensors{f', only pickled weights ({pickled[0]})' if pickled else ''}. Pickled "
            "weights can run code and are not opened: name a revision that has safetensors (on the hub often refs/pr/N,"
            " see the model's pull requests), or convert them with save_pretrained and give the local folder"
        )
    try:
        model, info = HubertModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: its safetensors cannot be loaded: {error}") from error
    missing = set(info["missing_keys"])
    if "masked_spec_embed" in missing:  # the vector of masked frames: only pre-training reads it
        missing.discard("masked_spec_embed")
        torch.nn.init.uniform_(model.masked_spec_embed.data, generator=torch.Generator().manual_seed(0))
        log.info("%s: has no masked_spec_embed; drew it at random (embeddings do not depend on it)", folder)
    if info["mismatched_keys"]:
        name, found, expected = sorted(info["mismatched_keys"])[0]
        raise DataError(
            f"{folder}: weight {name} has shape {tuple(found)}, expected {tuple(expected)} by config.json "
            f"({len(info['mismatched_keys'])} such weights)"
        )
    if missing:
        raise DataError(f"{folder}: weight {sorted(missing)[0]} is missing ({len(missing)} such weights)")
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise DataError(f"{folder}: weight {name} holds NaN or infinity")
    if info["unexpected_keys"]:
        log.info("%s: left out what is not of the encoder: %s", folder, ", ".join(sorted(info["unexpected_keys"])))
    return model.eval()
