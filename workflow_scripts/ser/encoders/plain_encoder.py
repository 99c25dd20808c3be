"""An encoder that goes the plain way, as embedding uses it; `plain` reads and runs the model."""

import logging
import math
from pathlib import Path

import numpy as np
import torch

from ser.audio.frames import SAMPLE_RATE
from ser.encoders.engine import Embedding, choose
from ser.encoders.plain import load_plain, read_plain_config, run
from ser.files import check_digests, read_json
from ser.formats.encoder_folder import DIGESTS

LONGEST = 80  # s of audio at once; longer audio is cut into equal parts, as in `engine` but without context

log = logging.getLogger(__name__)


class PlainEncoder:
    """An encoder that goes the plain way; see `engine.Encoder`, whose `embed` it has, for the arguments."""

    batch_seconds = 0  # one utterance at a time

    def __init__(self, folder: str | Path, device: str = "auto", threads: int | None = None, precision: str = "auto"):
        folder, like = Path(folder), choose(device, threads, precision)
        card = read_json(folder / "card.json")
        digests = {name: card[key] for name, key in DIGESTS.items() if key in card}
        check_digests((folder / name for name in DIGESTS), digests, folder / "card.json")
        model, self.extractor, _ = load_plain(folder, read_plain_config(folder))
        self.model = model.to(like.device, like.dtype)
        self.seconds = min(LONGEST, getattr(self.extractor, "chunk_length", LONGEST))
        log.info("%s: goes the plain way, through transformers' %s", folder, type(model).__name__)

    def embed(
        self, waves: list[np.ndarray], frames_layer: int | None = None, vectors: None = None, output: bool = False
    ) -> list[Embedding]:
        return [self._embed(wave, frames_layer) for wave in waves]

    def _embed(self, wave: np.ndarray, frames_layer: int | None) -> Embedding:
        total, frames, count = 0.0, [], 0
        for part in np.array_split(wave, math.ceil(len(wave) / (self.seconds * SAMPLE_RATE))):
            states = run(self.model, self.extractor, part)
            total = total + states.sum(1, dtype=torch.float32).cpu().numpy().astype(np.float64)  # (layers + 1, width)
            count += states.shape[1]
            if frames_layer is not None:
                frames.append(states[frames_layer].float().cpu().numpy())
        return Embedding((total / count).astype(np.float32), np.concatenate(frames) if frames else None, count)
