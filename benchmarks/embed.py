"""Embedding against the script that a user would write and against the machine's own matrix product; storage; reading.

    python benchmarks/embed.py [--family hubert] [--shape base] [--precision float32] [--seconds 240] [--repetitions 2]
                               [--threads 2]

The script is librosa.load and transformers, one file at a time, all hidden states averaged over time. Both read the
same WAV files (3 to 11 s, made up: content does not change the time) by turns, weights loaded beforehand; each
repetition on files of its own, because kernels are built for a length and kept for some dozens, and a corpus has more.
FLOPs are the model's own, from its configuration and the number of frames. The limit is the fastest product of two
2048 x 2048 matrices in the same run and precision, by torch itself or by oneDNN. With `--precision bfloat16` both
compute in it; a processor without instructions for it (AVX512-BF16, AMX) is told so, and there the figures say nothing.
`--family all` measures each, one line.

On a machine that others use too, `--threads 1` counts this process's processor seconds, which they do not change.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import librosa
import numpy as np
import soundfile
import torch
import transformers
from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils import logging

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow_scripts"), str(ROOT / "demo")]

import make_encoder  # noqa: E402

from ser.encoders import embed, engine, pretrained  # noqa: E402
from ser.encoders.engine import Encoder  # noqa: E402
from ser.encoders.precision import has_fast_bfloat16  # noqa: E402
from ser.encoders.products import uses_onednn  # noqa: E402
from ser.files import read_json, sha256  # noqa: E402
from ser.formats import manifest, tfrecord  # noqa: E402
from ser.formats.csv_files import format_rows  # noqa: E402
from ser.formats.encoder_families import FAMILIES  # noqa: E402

AUDIO = {"min_seconds": 0.1, "max_seconds": 600, "silence_db": -80}


def count_flops(config: dict, samples: int) -> float:
    """Floating-point operations of products and convolutions for an utterance, a multiplication and addition as two."""
    width, channels, length, total = config["hidden_size"], 1, samples, 0
    for kernel, stride, out in zip(config["conv_kernel"], config["conv_stride"], config["conv_dim"], strict=True):
        length = (length - kernel) // stride + 1
        total += 2 * length * kernel * channels * out
        channels = out
    total += 2 * length * channels * width
    kernel = config["num_conv_pos_embeddings"] * config.get("conv_pos_kernel_size", 1)
    total += 2 * length * width * width // config["num_conv_pos_embedding_groups"] * kernel
    linear = 2 * length * (4 * width * width + 2 * width * config["intermediate_size"])
    return total + config["num_hidden_layers"] * (linear + 4 * length * length * width)


def make_base(family: str, shape: str, folder: Path) -> None:
    """A random encoder of a family in a public shape; data2vec-audio's own have post-norm layers in all of them."""
    torch.manual_seed(0)
    name = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")
    sizes = {key: value for key, value in make_encoder.SHAPES[shape].items() if key in config().to_dict()}
    getattr(transformers, f"{name}Model")(config(**sizes)).save_pretrained(folder, max_shard_size="10GB")
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)


def make_shard(folder: Path, number: int, seconds: float) -> list[Path]:
    """WAV files of 3 to 11 s that make up about so many seconds, and their manifest."""
    rng = np.random.default_rng(number)
    rows, total = [], 0.0
    while total < seconds:
        duration = rng.uniform(3, 11)
        path = folder / f"{number}-{len(rows):04d}.wav"
        soundfile.write(path, rng.normal(0, 0.1, int(duration * 16_000)), 16_000)
        rows.append((path.name, path, "speaker", sha256(path)))
        total += duration
    (folder / f"shard-{number}.csv").write_text(format_rows(manifest.COLUMNS, rows))
    return [Path(row[1]) for row in rows]


def measure_peaks(clock, dtype: torch.dtype, n: int = 2048) -> dict[str, float]:
    """FLOP/s of a matrix product; the best of a few, each library's own."""
    a = torch.randn(n, n, dtype=dtype)
    peaks = {}
    for name, multiply in {
        "torch": lambda: a @ a,
        "oneDNN": lambda: torch.ops.mkldnn._linear_pointwise(a, a, None, "none", [], ""),
    }.items():
        if name == "oneDNN" and not uses_onednn(a):
            continue
        multiply()
        times = []
        for _ in range(5):
            start = clock()
            multiply()
            times.append(clock() - start)
        peaks[name] = 2 * n**3 / min(times)
    return peaks


def measure_reading(folder: Path, layers: int, width: int) -> float:
    """Bytes a second of reading pooled records from the page cache, checksums verified."""
    pooled = np.random.default_rng(0).normal(size=(layers + 1, width)).astype(np.float16)
    records = 200_000_000 // pooled.nbytes
    path = folder / "read.tfrecord"
    tfrecord.write(path, (tfrecord.Record(f"{i}.wav", "speaker", "0" * 64, 300, pooled) for i in range(records)))
    times = []
    for _ in range(5):
        start = time.process_time()
        for _ in tfrecord.read(path):
            pass
        times.append(time.process_time() - start)
    return path.stat().st_size / median(times)


def main(family: str, shape: str, precision: str, seconds: float, repetitions: int, threads: int) -> None:
    if precision == "bfloat16" and not has_fast_bfloat16():
        print("this processor has no instructions for bfloat16: what follows says nothing of one that has")
    for name in FAMILIES if family == "all" else [family]:
        measure(name, shape, precision, seconds, repetitions, threads, family == "all")


def measure(
    family: str, shape: str, precision: str, seconds: float, repetitions: int, threads: int, brief: bool
) -> None:
    clock = time.process_time if threads == 1 else time.perf_counter
    dtype = getattr(torch, precision)
    torch.set_num_threads(threads)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_base(family, shape, folder / "base")
        pretrained.prepare(str(folder / "base"), None, folder / "encoder")
        config = read_json(folder / "encoder/config.json")
        shards = [make_shard(folder, number, seconds) for number in range(repetitions)]
        samples = [soundfile.info(path).frames for paths in shards for path in paths]
        hours, flops = sum(samples) / 16_000 / 3600, sum(count_flops(config, n) for n in samples)  # of all repetitions

        extractor = AutoFeatureExtractor.from_pretrained(folder / "encoder")
        model = AutoModel.from_pretrained(folder / "encoder", dtype=dtype).eval()
        engine.resolve_precision = lambda *_: precision  # as asked, on whatever processor
        ours = Encoder(folder / "encoder", "cpu", threads, precision)
        engine.Encoder = lambda *_: ours  # weights are loaded beforehand here, as they are for the script

        def run_script(number: int) -> list[np.ndarray]:
            results = []
            for path in shards[number]:
                wave, _ = librosa.load(path, sr=16_000)
                with torch.no_grad():
                    values = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values.to(dtype)
                    states = model(values, output_hidden_states=True).hidden_states
                results.append(torch.stack([state[0].float().mean(0) for state in states]).numpy())
            return results

        def run_ours(number: int) -> list[np.ndarray]:
            outputs = folder / "pooled.tfrecord", folder / "frames.tfrecord"
            options = {"frames_layer": 1, "dtype": "float16", "device": "cpu", "threads": threads, "audio": AUDIO}
            options["precision"] = precision
            embed.embed_shard(
                folder / f"shard-{number}.csv", folder / "encoder", *outputs, reuse_dir=None, fingerprint="", **options
            )
            return [record.embedding for record in tfrecord.read(outputs[0])]

        librosa.load(shards[0][0], sr=16_000)
        ours.embed([np.ones(16_000, np.float32)])
        peaks, times, difference = {}, {run_script: 0.0, run_ours: 0.0}, 0.0
        for number in range(repetitions):
            for library, peak in measure_peaks(clock, dtype).items():
                peaks[library] = max(peak, peaks.get(library, 0))
            results = []
            for run in times:
                start = clock()
                results.append(run(number))
                times[run] += clock() - start
            difference = max(abs(a - b.astype(np.float32)).max() for a, b in zip(*results, strict=True))
        speed = {run: flops / total for run, total in times.items()}
        limit = max(peaks.values())
        last = sum(soundfile.info(path).frames for path in shards[-1]) / 16_000 / 3600
        size = {kind: (folder / f"{kind}.tfrecord").stat().st_size / last for kind in ("pooled", "frames")}
        whole = (config["num_hidden_layers"] + 1) * config["hidden_size"] * 4 * 50 * 3600

        if brief:
            script, shard = times.values()
            print(
                f"{family}-{shape}, {precision}: script {hours * 3600 / script:.1f} x real time, embed_shard "
                f"{hours * 3600 / shard:.1f}, {script / shard:.2f} times as fast; {speed[run_ours] / limit:.2f} "
                f"of the product's {limit / 1e9:.0f} GFLOP/s; max. difference {difference:.1e}"
            )
            return
        print(f"{family}-{shape}, {precision}, {threads} threads, {len(samples)} files, ", end="")
        print(f"{hours * 3600:.0f} s of audio, {flops / hours / 3600 / 1e9:.1f} GFLOP/s of audio")
        for library, peak in peaks.items():
            print(f"matrix product, {library:<24}{peak / 1e9:8.0f} GFLOP/s")
        for title, run in {"librosa and transformers": run_script, "embed_shard": run_ours}.items():
            print(
                f"{title:<40}{speed[run] / 1e9:8.0f} GFLOP/s {hours * 3600 / times[run]:6.1f} x real time, "
                f"{speed[run] / limit:.2f} of the limit, {speed[run] / peaks['torch']:.2f} of torch's own product"
            )
        print(f"embed_shard against the script: {speed[run_ours] / speed[run_script]:.2f} times as fast, ", end="")
        print(f"max. difference {difference:.1e} (stored as float16)")
        print(f"an hour as float32 frames of every layer: {whole / 1e6:.0f} MB; ", end="")
        print(", ".join(f"{kind} in float16 {n / 1e6:.1f} MB = {n / whole:.2%}" for kind, n in size.items()))
        rate = measure_reading(folder, config["num_hidden_layers"], config["hidden_size"])
        print(f"reading pooled records from the page cache: {rate / 1e6:.0f} MB/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=[*FAMILIES, "all"], default="hubert")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--shape", choices=make_encoder.SHAPES, default="base")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    main(**vars(parser.parse_args()))
