"""The families of encoders that the engine runs: one Transformer over 50 Hz frames, with parts of each family's own.

All have the convolutional front of wav2vec 2.0 (arXiv 2006.11477). They differ in its norm (over time, or over
channels), in where the norms of the Transformer stand, and in how it is told positions; the configuration says so:

    feat_extract_norm     `group` or `layer`; data2vec-audio, which has no such key, has `layer`
    do_stable_layer_norm  pre-norm layers (large shapes); data2vec-audio has none
    conv_pos_batch_norm   (HuBERT) batch norm before the convolution that tells positions, for weight norm in it
    conv_pos_kernel_size  (data2vec-audio) a stack of convolutions tells positions
    adapter_attn_dim      (MMS, pre-norm shapes) a small layer after each one, of the language it was saved for
    num_buckets           (WavLM) a relative position bias in every attention, gated by what attends
"""

from pathlib import Path

from ser.files import DataError, read_json

# By `model_type`, what transformers' classes begin with; wav2vec2 has XLS-R and MMS too.
FAMILIES = {
    "hubert": "Hubert",
    "wav2vec2": "Wav2Vec2",
    "wavlm": "WavLM",
    "data2vec-audio": "Data2VecAudio",
    "unispeech": "UniSpeech",
    "unispeech-sat": "UniSpeechSat",
}

# Those that transformers has models for speaker verification of (`ForXVector`).
SPEAKER_FAMILIES = ("wavlm", "wav2vec2", "unispeech-sat", "data2vec-audio")


def is_pre_norm(config: dict) -> bool:
    """Whether norms stand before attention and feed-forward, and one after the last layer."""
    return config.get("do_stable_layer_norm", False)


def is_grouped(config: dict) -> bool:
    """Whether the front normalises each channel over time, once; else it does each frame over channels, always."""
    return config.get("feat_extract_norm", "layer") == "group"


def read_family(folder: Path) -> str:
    """The `model_type` of an encoder's folder, of one of these families or of another; "" where it has none."""
    path = folder / "config.json"
    if not path.exists():
        raise DataError(f"{folder}: has no config.json; expected an encoder in Hugging Face format")
    values = read_json(path)
    kind = values.get("model_type") if isinstance(values, dict) else None
    return kind[:100] if isinstance(kind, str) else ""


def find_bundle_fault(kind: str) -> str | None:
    """Why a bundle cannot have an encoder of this `model_type`; None where it can."""
    if kind not in FAMILIES:
        return f"its encoder is of model_type {kind!r}, which bundles do not know"
    if kind == "wavlm":
        return "its encoder is a WavLM, whose attention has a bias of positions that bundles do not know"
    return None


def check_trainable(folder: Path, where: str) -> None:
    """Raise DataError, beginning with `where`, for an encoder that the engine does not run, which trains them."""
    if (kind := read_family(folder)) not in FAMILIES:
        raise DataError(
            f"{where}: an encoder of model_type {kind!r} can be embedded with, but neither pre-trained nor fine-tuned "
            f"here, nor clustered; take one of {', '.join(FAMILIES)}"
        )
