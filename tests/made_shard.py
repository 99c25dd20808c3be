"""A shard of made-up audio, and runs of `embed_shard` over it."""

from pathlib import Path

import numpy as np
import soundfile
from safetensors.numpy import load_file, save_file

from ser.encoders import embed
from ser.files import read_json, sha256, write_json
from ser.formats import tfrecord
from ser.formats.csv_files import format_rows
from ser.formats.manifest import COLUMNS

AUDIO = {"min_seconds": 0.2, "max_seconds": 60, "silence_db": -60}
OPTIONS = {
    "frames_layer": 2,
    "dtype": "float32",
    "device": "cpu",
    "threads": 2,
    "audio": AUDIO,
    "fingerprint": "code 1",
}


class Shard:
    """A shard of made-up audio in a folder, and runs of `embed_shard` over it."""

    def __init__(self, folder: Path, models):
        self.folder, self.models, self.speakers = folder, models, {}
        (folder / "audio").mkdir()
        self.add("b/2 ü.wav", "speaker b", seed=1)
        self.add("a.wav", "speaker a", seed=2, seconds=1)
        self.add("c.wav", "speaker a", seed=3, seconds=0.7)

    def add(self, utterance_id, speaker, seed, seconds=0.5, level=0.1):
        wave = np.random.default_rng(seed).normal(0, 1, int(seconds * 16000)) * level
        soundfile.write(self.path(utterance_id), wave, 16000, subtype="FLOAT")
        self.speakers[utterance_id] = speaker

    def path(self, utterance_id):
        return self.folder / "audio" / f"{utterance_id.replace('/', '_')}.wav"

    def run(self, frames=True, reuse=True, **options):
        """Run, and return {utterance_id: (pooled record, frames record)} in the files' order."""
        rows = [
            (utterance_id, str(self.path(utterance_id)), speaker, sha256(self.path(utterance_id)))
            for utterance_id, speaker in sorted(self.speakers.items())
        ]
        (self.folder / "shard-007.csv").write_text(format_rows(COLUMNS, rows), encoding="utf-8")
        paths = [self.folder / "pooled.tfrecord"] + [self.folder / "frames.tfrecord"] * frames
        for path in paths:
            path.unlink(missing_ok=True)  # as Snakemake does before a job
        embed.embed_shard(
            self.folder / "shard-007.csv",
            self.folder / "encoder",
            paths[0],
            paths[1] if frames else None,
            reuse_dir=self.folder / "reuse" if reuse else None,
            **OPTIONS | options,
        )
        files = [list(tfrecord.read(path)) for path in paths]
        return {records[0].utterance_id: records for records in zip(*files, strict=True)}

    def stash(self):
        return sorted(path.name for path in (self.folder / "reuse").iterdir())


def equal(one, other):
    return list(one) == list(other) and all(
        np.array_equal(x.embedding, y.embedding)
        and (x.utterance_id, x.speaker_id, x.sha256, x.n_frames) == (y.utterance_id, y.speaker_id, y.sha256, y.n_frames)
        for key in one
        for x, y in zip(one[key], other[key], strict=True)
    )


def change_weights(shard, name, change):
    """Other weights of the shard's encoder, with the card that belongs to them."""
    folder = shard.folder / "encoder"
    weights = load_file(folder / "model.safetensors")
    weights[name] = change(weights[name]).astype(np.float32)
    save_file(weights, folder / "model.safetensors")
    card = read_json(folder / "card.json") | {"weights_sha256": sha256(folder / "model.safetensors")}
    write_json(folder / "card.json", card)
