"""How artefacts lie on disk: manifests, Parquet, TFRecord, safetensors and CSV, read and written whole."""
