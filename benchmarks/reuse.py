"""What one changed file of a shard costs: the records of all others are taken from the last run.

    python benchmarks/reuse.py [--utterances 4000] [--shape small] [--threads 1]

A shard of made-up utterances of 1 s is embedded with a randomly initialised HuBERT, then again with nothing changed,
then with one file changed. The baseline is the first run; the utterances that the encoder saw are counted.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow_scripts"), str(ROOT / "demo")]

import make_encoder  # noqa: E402

from ser.encoders import embed, engine, pretrained  # noqa: E402
from ser.files import sha256  # noqa: E402
from ser.formats.csv_files import format_rows  # noqa: E402
from ser.formats.manifest import COLUMNS  # noqa: E402

AUDIO = {"min_seconds": 0.1, "max_seconds": 600, "silence_db": -80}


def write_utterance(path: Path, seed: int) -> None:
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 16_000), 16_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=4000)
    parser.add_argument("--shape", choices=make_encoder.SHAPES, default="small")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    seen = []
    original = engine.Encoder.embed

    def counted(self, waves, *rest):
        seen.extend(waves)
        return original(self, waves, *rest)

    engine.Encoder.embed = counted
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_encoder.make(options.shape, folder / "made", seed=0)
        pretrained.prepare(str(folder / "made"), None, folder / "encoder")
        paths = [folder / f"{number:05d}.wav" for number in range(options.utterances)]
        for number, path in enumerate(paths):
            write_utterance(path, number)

        def run(what: str) -> None:
            rows = [(path.name, path, f"speaker {i % 50}", sha256(path)) for i, path in enumerate(paths)]
            (folder / "shard-000.csv").write_text(format_rows(COLUMNS, rows))
            seen.clear()
            started = time.perf_counter()
            embed.embed_shard(
                folder / "shard-000.csv",
                folder / "encoder",
                folder / "shard-000.tfrecord",
                None,
                frames_layer=None,
                dtype="float16",
                device="cpu",
                threads=options.threads,
                audio=AUDIO,
                reuse_dir=folder / "reuse",
                fingerprint="",
            )
            print(f"{what:16} {time.perf_counter() - started:8.2f} s, {len(seen)} forward passes", flush=True)

        run("first run")
        run("nothing changed")
        write_utterance(paths[options.utterances // 2], options.utterances)
        run("one file changed")


if __name__ == "__main__":
    main()
