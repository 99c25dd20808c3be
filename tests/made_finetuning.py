"""Fine-tuned ablations of a small made corpus, in a process of their own: Keras has but one backend in a process.

`python tests/made_finetuning.py FOLDER NAME...` tunes cases in a folder that `make_inputs` filled.
"""

import json
import sys
from pathlib import Path

import numpy as np

from ser.config.ablation import Ablation

TARGETS = ["valence", "arousal"]
AUDIO = {"min_seconds": 0.1, "max_seconds": 60, "silence_db": -80}
WIDTH, LAYERS = 16, 2
SPLITS = {"train": 4, "validation": 2}  # speakers
SETTINGS = {
    **{"method": "whole", "epochs": 2, "patience": 2, "batch_size": 10, "learning_rate": 1e-3},
    **{"head_learning_rate": 1e-2, "weight_decay": 1e-4, "warmup": 0.0, "clip": 1, "dropout": 0.1, "crop_seconds": 5.0},
    **{"micro_batch_seconds": 2, "gradient_checkpointing": False, "precision": "float32", "threads": 1},
    **{"checkpoint_steps": 1, "gpus": 1, "decay": False},
}
TRANSFORMER = {"width": 8, "layers": 1, "attention_heads": 2, "feed_forward": 8, "max_frames": 20}
CASES = {
    "mlp": {"layer": -1},
    "raw": {"layer": -1},
    "layers": {"layer": "weighted", "speaker": "mfcc", "fusion": "sum"},
    "frames": {"head": "transformer", "units": TRANSFORMER},
    "papt": {"layer": -1},
    "vectors": {"layer": -1},
    "weighted": {"layer": -1, "weighting": "similar_speakers", "neighbours": 2},
    "lost": {"layer": -1},
    "normalised": {"layer": -1, "normalise": "speaker"},
    "enrolled": {"layer": "weighted", "normalise": "speaker_mean", "enrolment": 2, "permuted": True},
    "attends": {"layer": "weighted", "normalise": "speaker_mean", "fusion": "attention", "attended": 2},
}
CHANGES = {
    "layers": {"method": "top", "layers": 1},
    "frames": {"method": "lora", "rank": 2},
    "lost": {"learning_rate": 0.0, "head_learning_rate": 1e-9, "epochs": 1},
}


def ablation_of(name: str) -> Ablation:
    settings = {"units": [8], "training": {"dropout": 0.1, "threads": 1}} | CASES[name]
    return Ablation("e", finetune=SETTINGS | CHANGES.get(name, {}), **settings)


def tune(folder: Path, name: str, **changes) -> None:
    """Fine-tune a case: `FOLDER/NAME/{encoder,model.keras,...}`.

    Beside it stands what the joint model predicts (`joint.npz`), and how far each of the head's weights went
    (`moves.json`).
    """
    from ser.files import write_json
    from ser.finetuning import finetune as module
    from ser.finetuning.finetune import Files, Places, Recipe
    from ser.finetuning.speaker_table import Compared

    out = folder / name
    base = folder / {"papt": "papt_base", "vectors": "papt_base", "raw": "raw_base"}.get(name, "base")
    files = {
        split: Files(
            facts=[str(folder / f"{split}-facts.parquet")],
            labels=str(folder / f"{split}-labels.parquet"),
            speakers=[str(folder / f"{split}-speakers.json")],
            vectors=[str(folder / f"{split}-vectors.json")] if name == "papt" else [],
        )
        for split in SPLITS
    }
    if name == "vectors":
        changes["compared"] = Compared([str(folder / "means.parquet")], 2)
    recipe = Recipe(name, ablation_of(name), 1, TARGETS, AUDIO, "cpu", "")
    places = Places(out / "encoder", out / "model.keras", out / "history.csv", out / "state.pt", out / "tensorboard")
    save, set_statistics, start = module._save, module._set_statistics, []

    def list_weights(model):
        return [(weight.path, weight.numpy().copy()) for weight in model.head.keras.trainable_weights]

    def note_and_set(model, *rest):
        start.extend(list_weights(model))
        set_statistics(model, *rest)

    def predict_and_save(trainer, model, *rest):
        model.eval()
        import torch

        with torch.no_grad():
            found = [predictions.numpy() for _, predictions in trainer.task._predict("validation")]
        rows = [row for rows, _ in trainer.task._visit("validation") for row in rows]
        plan = [trainer.task.clips["validation"][row] for row in rows]
        out.mkdir(parents=True, exist_ok=True)
        np.savez(out / "joint.npz", paths=[Path(clip.path).stem for clip in plan], values=np.concatenate(found))
        ends = [values for _, values in list_weights(model)]
        moves = {path: float(np.abs(end - values).max()) for (path, values), end in zip(start, ends, strict=True)}
        assert len(moves) == len(start)
        write_json(out / "moves.json", moves)
        save(trainer, model, *rest)

    module._save, module._set_statistics = predict_and_save, note_and_set
    try:
        weighed = tuple([str(folder / f"{split}-speakers.json")] for split in SPLITS)
        module.finetune(base, files, weighed, recipe, places, **changes)
    finally:
        module._save, module._set_statistics = save, set_statistics


def make_inputs(folder: Path) -> None:
    """Audio, its facts, labels, averaged MFCCs, two encoders and vectors of speakers."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch
    from made_corpus import write_utterance
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    from ser.audio.facts import measure_shard
    from ser.encoders import pretrained
    from ser.encoders.past import Past
    from ser.files import sha256, write_json
    from ser.formats.csv_files import format_rows
    from ser.formats.encoder_folder import HEAD
    from ser.formats.manifest import Utterance
    from ser.formats.tensors import write_tensors

    torch.manual_seed(0)
    dropouts = dict.fromkeys(["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"], 0.1)
    config = HubertConfig(
        conv_dim=[8] * 7,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        do_stable_layer_norm=True,
        **dropouts,
    )
    origin = {"base": "made", "weights": "pretrained", "adaptation": "none"}
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    pretrained.save(HubertModel(config), extractor, folder / "base", Past(("before",), frozenset()), **origin)
    # hears audio as it is; a front with biases, and no norm over time, tells how loud that is
    raw = HubertConfig(**config.to_diff_dict() | {"feat_extract_norm": "layer", "conv_bias": True})
    as_it_is = Wav2Vec2FeatureExtractor(do_normalize=False)
    pretrained.save(HubertModel(raw), as_it_is, folder / "raw_base", Past(("before",), frozenset()), **origin)
    personalised = origin | {"adaptation": "papt", "position": "last"}
    pretrained.save(
        HubertModel(config), extractor, folder / "papt_base", Past(("before",), frozenset()), **personalised
    )
    rng = np.random.default_rng(3)
    speakers = {split: [f"{split}{number}" for number in range(count)] for split, count in SPLITS.items()}
    vectors = {"speaker_vectors": rng.standard_normal((SPLITS["train"], WIDTH), np.float32)}
    write_tensors(folder / "papt_base" / HEAD, vectors, {"speakers": json.dumps(speakers["train"])})
    means = {"speaker_id": sum(speakers.values(), [])}
    means["mean"] = [rng.standard_normal(WIDTH).tolist() for _ in means["speaker_id"]]
    pq.write_table(pa.table(means), folder / "means.parquet")
    for split, count in SPLITS.items():
        utterances, labels = [], []
        for speaker in range(count):
            for number in range(3):
                values, name = rng.uniform(1, 7, 3), f"{split}{speaker}-{number}"
                path = folder / "audio" / f"{name}.wav"
                write_utterance(path, values, speaker / 4, seed=len(utterances), seconds=0.5 + 0.2 * number)
                utterances.append(Utterance(name, str(path), f"{split}{speaker}", sha256(path)))
                labels.append((name, f"{split}{speaker}", *values[:2]))
        (folder / f"{split}.csv").write_text(format_rows(Utterance._fields, utterances))
        measure_shard(
            folder / f"{split}.csv", folder / f"{split}-facts.parquet", folder / f"{split}-speakers.json", **AUDIO
        )
        table = dict(zip(("utterance_id", "speaker_id", *TARGETS), map(list, zip(*labels, strict=True)), strict=True))
        pq.write_table(pa.table(table), folder / f"{split}-labels.parquet")
        vectors = {f"{split}{speaker}": rng.standard_normal(WIDTH).tolist() for speaker in range(count)}
        write_json(folder / f"{split}-vectors.json", vectors)


if __name__ == "__main__":
    import ser.lean_torch_keras  # noqa: F401

    for case in sys.argv[2:]:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(True)
        tune(Path(sys.argv[1]), case)
    print("TensorFlow:", sys.modules.get("tensorflow"))
