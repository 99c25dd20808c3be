"""A small corpus that is ready for adaptive pre-training, and runs of it."""

import numpy as np
import torch
from made_corpus import write_utterance
from safetensors.torch import load_file
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from ser.adaptation import adapt as adaptation
from ser.adaptation import pseudo_labels
from ser.encoders import pretrained, speaker_summaries
from ser.encoders.past import Past
from ser.files import sha256
from ser.formats.csv_files import format_rows
from ser.formats.manifest import Utterance
from ser.formats.tfrecord import Record, write

AUDIO = {"min_seconds": 0.1, "max_seconds": 60, "silence_db": -80}
LABELS = {"features": "mfcc", "layer": -1, "clusters": 6, "frames": 500, "seed": 1}
SETTINGS = {
    **{"epochs": 2, "learning_rate": 1e-3, "head_learning_rate": 1e-2, "warmup": 0.1, "batch_seconds": 2},
    **{"crop_seconds": 1, "accumulate": 1, "clip": 10, "freeze_front": False, "mask_probability": 0.08},
    **{
        "mask_length": 10,
        "code_width": 8,
        "temperature": 0.1,
        "feature_penalty": 0,
        "precision": "float32",
        "seed": 1,
        "threads": 1,
    },
    **{"gpus": 1, "checkpoint_steps": 2},
}
TAPT = {"adaptation": "tapt", "position": "last", "splits": ["train"]}
PAPT = TAPT | {"adaptation": "papt"}
DROPOUTS = ["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"]
TWO_PROCESSES = """
import pickle, sys
from made_adaptation import run
from ser.optimisation import trainer
trainer.device_count, accelerator = lambda: 2, trainer.Accelerator
trainer.Accelerator = lambda cpu, **options: accelerator(cpu=True, **options)  # two CPU processes for two GPUs
run(*pickle.loads(bytes.fromhex(sys.argv[1])), device="auto", gpus=2)
"""
SPEAKERS = {"train": ["a", "b", "c"], "validation": ["v", "w"]}


def make_adaptable(folder):
    """Manifests, clusters, pseudo-labels and speaker means of eleven utterances, and a base encoder."""
    torch.manual_seed(0)
    config = HubertConfig(
        conv_dim=[8] * 7,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **dict.fromkeys(DROPOUTS, 0.1),
    )
    pretrained.save(HubertModel(config), Wav2Vec2FeatureExtractor(do_normalize=True), folder / "base", Past())
    shards = {}
    for split, speakers in SPEAKERS.items():
        utterances, records = [], []
        for number, speaker in enumerate(speakers):
            for u in range(3 if split == "train" else 1):
                path = folder / split / f"{speaker}{u}.wav"
                write_utterance(path, (3 + u, 4, 4), number / 3, seed=10 * number + u, seconds=0.8 + 0.3 * u)
                utterances.append(Utterance(f"{speaker}{u}", str(path), speaker, sha256(path)))
                vector = np.array([[number, 1 + u, 3 - number]], np.float32)
                records.append(Record(f"{speaker}{u}", speaker, sha256(path), 1, vector))
        manifest = folder / f"{split}.csv"
        manifest.write_text(format_rows(Utterance._fields, utterances))
        shards[split] = ([str(manifest)], [str(folder / f"{split}.parquet")])
        write(folder / f"{split}.tfrecord", records)
        means = str(folder / f"{split}-means.parquet")
        speaker_summaries.summarise_embeddings([str(folder / f"{split}.tfrecord")], means)
    common = {"options": LABELS, "audio": AUDIO, "device": "cpu", "threads": 1}
    pseudo_labels.make_clusters(shards["train"][0], None, None, folder / "clusters.safetensors", **common)
    for manifests, labels in shards.values():
        pseudo_labels.label_shard(manifests[0], folder / "clusters.safetensors", None, labels[0], **common)
    return folder, shards


def run(corpus, out, options=TAPT, base="base", device="cpu", **settings):
    folder, shards = corpus
    adaptation.adapt(
        adaptation.Sources(
            base=str(folder / base),
            revision=None,
            shards=shards,
            clusters=str(folder / "clusters.safetensors"),
            speaker_means=[str(folder / f"{split}-means.parquet") for split in SPEAKERS],
        ),
        adaptation.Recipe(options=options, settings=SETTINGS | settings, audio=AUDIO, fingerprint=""),
        adaptation.Places(out, out.parent / "checkpoint.pt", out.parent / "tensorboard"),
        device,
    )


def adapt(corpus, out, *options, **settings):
    """`run`, and the weights that it wrote."""
    run(corpus, out, *options, **settings)
    return load_file(out / "model.safetensors") | load_file(out / "adaptation.safetensors")
