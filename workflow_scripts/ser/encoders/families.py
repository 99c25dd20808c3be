"""The families of encoders that the engine runs: one Transformer over 50 Hz frames, with parts of each family's own.

All have the convolutional front of wav2vec 2.0 (arXiv 2006.11477). They differ in its norm (over time, or over
channels), in where the norms of the Transformer stand, and in how it is told positions; the configuration says so:

    feat_extract_norm     `group` or `layer`; data2vec-audio, which has no such key, has `layer`
    do_stable_layer_norm  pre-norm layers (large shapes); data2vec-audio has none
    conv_pos_batch_norm   (HuBERT) batch norm before the convolution that tells positions, for weight norm in it
    conv_pos_kernel_size  (data2vec-audio) a stack of convolutions tells positions
    num_buckets           (WavLM) a relative position bias in every attention, gated by what attends
"""

# By `model_type`, what transformers' classes begin with; wav2vec2 has XLS-R and MMS too.
FAMILIES = {
    "hubert": "Hubert",
    "wav2vec2": "Wav2Vec2",
    "wavlm": "WavLM",
    "data2vec-audio": "Data2VecAudio",
    "unispeech": "UniSpeech",
    "unispeech-sat": "UniSpeechSat",
}


def is_pre_norm(config: dict) -> bool:
    """Whether norms stand before attention and feed-forward, and one after the last layer."""
    return config.get("do_stable_layer_norm", False)


def is_grouped(config: dict) -> bool:
    """Whether the front normalises each channel over time, once; else it does each frame over channels, always."""
    return config.get("feat_extract_norm", "layer") == "group"
