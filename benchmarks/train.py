"""Training the grid of ablations and seeds from cached embeddings, against Keras' own `model.fit` for each seed.

    python benchmarks/train.py [--utterances 26000] [--layers 25] [--width 1024] [--seeds 5] [--epochs 10]
                               [--ablations 2]

Features are made up, at the size of MSP-Podcast 1.6 with HuBERT large: training and validation utterances of (layers,
width) float16 in TFRecords, whose labels depend on them. The script that a user would write builds the same head and
calls `model.fit` on the same TFRecords with a CCC loss, for one seed; its time is taken times the number of seeds.
Every ablation is a process of its own, as the workflow's jobs are, imports and predictions included. Both use one
thread for arithmetic and take the same number of steps. There are eight ablations; the first two stand for the others.

Seconds are of the processor, which what else the machine does changes less than those of the wall, printed too.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from ser.config.ablation import Ablation  # noqa: E402

TARGETS = ["valence", "arousal", "dominance"]
TRAINING = {"loss": "ccc", "patience": 99, "batch_size": 64, "learning_rate": 0.001, "dropout": 0.3, "threads": 1}
ABLATIONS = {  # the first ones are timed
    "baseline": {},
    "mfcc-sum": {"speaker": "mfcc", "fusion": "sum"},
    "mfcc-concat": {"speaker": "mfcc", "fusion": "concat"},
    "mfcc-film": {"speaker": "mfcc", "fusion": "film"},
    "permuted-sum": {"speaker": "mfcc_permuted", "fusion": "sum"},
    "concat-lift": {"speaker": "mfcc", "fusion": "concat_lift"},
    "last-layer": {"layer": -1},
    "mse": {"training": {"loss": "mse"}},
}


def make_split(folder: Path, split: str, utterances: int, layers: int, width: int) -> dict:
    """Records of a split in shards of 4,000, its speakers' vectors and labels: the arguments of `training.Split`."""
    import pyarrow as pa

    from ser.files import write_json
    from ser.formats import tfrecord
    from ser.formats.parquet import write_parquet

    rng = np.random.default_rng(len(split))
    directions = np.random.default_rng(0).normal(size=(len(TARGETS), width))
    labels = rng.uniform(1, 7, (utterances, len(TARGETS)))
    noise = rng.normal(size=(64, layers, width)).astype(np.float32)
    paths, speakers = [], sorted({f"{split} {number // 25:05}" for number in range(utterances)})
    for first in range(0, utterances, 4000):
        paths.append(str(folder / f"{split}-{first}.tfrecord"))
        tfrecord.write(
            paths[-1],
            (
                tfrecord.Record(
                    f"{number:06}.wav",
                    f"{split} {number // 25:05}",
                    "0" * 64,
                    250,
                    (noise[number % 64] + (labels[number] - 4) @ directions / 20).astype(np.float16),
                )
                for number in range(first, min(first + 4000, utterances))
            ),
        )
    write_json(folder / f"{split}.json", {name: {"mfcc": rng.normal(size=13).tolist()} for name in speakers})
    table = {"utterance_id": [f"{number:06}.wav" for number in range(utterances)]}
    table["speaker_id"] = [f"{split} {number // 25:05}" for number in range(utterances)]
    table |= {target: labels[:, i] for i, target in enumerate(TARGETS)}
    write_parquet(folder / f"{split}.parquet", pa.table(table))
    return {
        "embeddings": paths,
        "speakers": [str(folder / f"{split}.json")],
        "labels": str(folder / f"{split}.parquet"),
    }


def train_ours(ablation: Ablation, splits: dict, seeds: int, folder: Path) -> list[float]:
    """The seeds' validation CCC, of the best epoch, mean over targets."""
    import ser.lean_keras  # noqa: F401
    from ser.heads.numerics import fix_numerics
    from ser.heads.training import train_ablation
    from ser.heads.training_data import Split
    from ser.heads.tuning import read_score

    fix_numerics(1)
    results = f"{folder}/{{kind}}/seed-{{seed}}/{{split}}.parquet"
    files = {name: Split(**files) for name, files in splits.items()}
    train_ablation(
        ablation, seeds=range(seeds), targets=TARGETS, folder=folder, results=results, memory_bytes=8e9, **files
    )
    return [float(np.mean(read_score(f"{folder}/seed-{seed}/history.csv", TARGETS))) for seed in range(seeds)]


def fit_with_keras(ablation: Ablation, splits: dict, seeds: int, folder: Path) -> list[float]:
    """The script: one seed, records decoded and shuffled by tf.data in each epoch, the best epoch kept."""
    import keras
    import tensorflow as tf

    from ser.heads.features import open_features, read_shape
    from ser.heads.inputs import read_speakers, read_training_labels
    from ser.heads.model import build_head, set_statistics
    from ser.heads.numerics import fix_numerics
    from ser.heads.training import ccc_loss
    from ser.statistics.ccc import compute_ccc

    fix_numerics(1)
    keras.utils.set_random_seed(0)
    datasets, labels = {}, {}
    shape = read_shape(splits["train"]["embeddings"])
    for name, files in splits.items():
        speakers = None
        if ablation.reads_speakers:
            speakers = read_speakers(files["speakers"])
            if name == "train":
                vectors = np.stack(list(speakers.values()))
        labels[name] = read_training_labels(files["labels"], TARGETS)
        dataset = open_features(files["embeddings"], ablation, shape, speakers, labels[name])
        keys = ("features", "speaker") if speakers else ("features",)
        dataset = dataset.map(lambda item, keys=keys: ({key: item[key] for key in keys}, item["labels"]))
        dataset = dataset.shuffle(1024, seed=0) if name == "train" else dataset
        datasets[name] = dataset.batch(64, drop_remainder=name == "train").prefetch(2)
    values = labels["train"].values
    head = build_head(
        ablation,
        n_layers=shape.rows,
        width=shape.width,
        label_mean=values.mean(0).tolist(),
        label_sd=values.std(0).tolist(),
    )
    adapted = next(iter(datasets["train"]))[0]["features"].numpy()  # of a batch: nobody waits for all of them
    set_statistics(head, "standardise_features", adapted.mean(0), adapted.var(0))
    if ablation.reads_speakers:
        set_statistics(head, "standardise_speaker", vectors.mean(0), vectors.var(0))

    def loss(true, predicted):
        if ablation.training["loss"] == "mse":
            return tf.reduce_mean((true - predicted) ** 2)
        return ccc_loss(true, predicted, tf.ones_like(true[:, :1]))

    best: list[float] = []

    class Validate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            predicted = model.predict(datasets["validation"], verbose=0)
            true = labels["validation"].values
            best.append(np.mean([compute_ccc(true[:, i], predicted[:, i]) for i in range(len(TARGETS))]))

    model = keras.Model(head.inputs, head.output["labels"])
    model.compile(keras.optimizers.Adam(ablation.training["learning_rate"]), loss)
    model.fit(datasets["train"], epochs=ablation.training["epochs"], verbose=0, callbacks=[Validate()])
    model.save(folder / "model.keras")
    return [float(max(best))]


def measure(run, *arguments) -> tuple[float, float, float, list[float]]:
    """Processor and wall seconds, peak memory (GB) and scores of a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_self, (run, *arguments))


def _measure_self(run, ablation: Ablation, splits: dict, seeds: int, folder: Path):
    folder.mkdir(parents=True)
    started = time.perf_counter()
    scores = run(ablation, splits, seeds, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return time.process_time(), time.perf_counter() - started, peak, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=26_000)
    parser.add_argument("--layers", type=int, default=25)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--ablations", type=int, default=2, help="the first so many of eight")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    total = {"ours": 0.0, "fit": 0.0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {"train": options.utterances, "validation": options.utterances // 5}
        splits = {
            split: make_split(folder, split, count, options.layers, options.width) for split, count in sizes.items()
        }
        print(f"{'':14}{'all seeds at once':>32}{'model.fit, one seed':>32}{'ratio for all seeds':>21}")
        columns = f"{'CPU s':>8}{'wall s':>8}{'GB':>5}{'CCC':>11}"
        print(f"{'':14}{columns}{columns}{'CPU':>12}{'wall':>9}")
        for name, changes in list(ABLATIONS.items())[: options.ablations]:
            training = TRAINING | {"epochs": options.epochs} | changes.get("training", {})
            ablation = Ablation("large", **{"layer": "weighted", "units": [128, 32]} | changes | {"training": training})
            ours = measure(train_ours, ablation, splits, options.seeds, folder / name / "ours")
            fit = measure(fit_with_keras, ablation, splits, 1, folder / name / "fit")
            print(f"{name:14}", end="")
            for cpu, wall, peak, scores in (ours, fit):
                print(f"{cpu:8.1f}{wall:8.1f}{peak:5.1f}{np.mean(scores):11.4f}", end="")
            print(f"{options.seeds * fit[0] / ours[0]:12.1f}{options.seeds * fit[1] / ours[1]:9.1f}", flush=True)
            total["ours"] += ours[0]
            total["fit"] += options.seeds * fit[0]
    print(
        f"{options.seeds} seeds of {options.epochs} epochs: {total['fit'] / total['ours']:.1f} times the processor time"
    )


if __name__ == "__main__":
    main()
