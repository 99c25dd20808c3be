"""An encoder that was brought into the workflow's form, opened for embedding, whichever way it goes."""

from pathlib import Path

from ser.files import read_json


def is_plain(folder: str | Path) -> bool:
    """Whether an encoder goes the plain way, through transformers' own model."""
    return read_json(Path(folder) / "card.json").get("way") == "plain"


def open_encoder(folder: str | Path, device: str = "auto", threads: int | None = None, precision: str = "auto"):
    """An `engine.Encoder`, or a `plain_encoder.PlainEncoder`, which has the same `embed` and `batch_seconds`."""
    if is_plain(folder):
        from ser.encoders.plain_encoder import PlainEncoder  # transformers: seconds that the engine does without

        return PlainEncoder(folder, device, threads, precision)
    from ser.encoders import engine

    return engine.Encoder(folder, device, threads, precision)
