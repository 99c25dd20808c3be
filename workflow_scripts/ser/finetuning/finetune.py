"""Fine-tuning of one seed of an ablation: its encoder and its head trained together on the labels.

After Tran, Yin and Soleymani (Interspeech 2023), whose rows are all fine-tuned: AdamW, 1 - CCC over a batch, and the
weights of the epoch with the best CCC on the validation split. The head standardises its features by their statistics
before tuning, a fixed map that lets it start on their scale (the paper's has none).
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch

from ser.config.ablation import Ablation
from ser.config.finetuning import check_encoder, check_size
from ser.encoders import pretrained
from ser.encoders.past import describe_audio, read_past
from ser.files import DataError, read_json, sha256
from ser.finetuning.joint_model import JointModel
from ser.finetuning.keras_head import KerasHead
from ser.finetuning.memory_bank import make_banks
from ser.finetuning.methods import merge_adapters
from ser.finetuning.speaker_table import Compared, SpeakerTable
from ser.finetuning.task import Clip, FineTuning
from ser.formats.parquet import read_parquet
from ser.heads.inputs import read_speakers, read_training_labels
from ser.heads.model import set_statistics
from ser.heads.saving import save_model, write_history
from ser.heads.weighting import weigh_speakers
from ser.optimisation.trainer import Trainer, launch, make_accelerator
from ser.speakers.vectors import read_vectors

log = logging.getLogger(__name__)

SPLITS = ("train", "validation")
# What the card of an encoder says that is true of it still when it is tuned.
ORIGIN = ("base", "revision", "commit", "adaptation", "position")
MICRO_BATCH_SECONDS = {"cpu": 60, "cuda": 240}  # a batch of 32 at once on a GPU of 24 GB, with HuBERT large in bfloat16
LEARNED = 0.05  # a mean CCC on validation that a seed has to reach to have learned anything


@dataclass(frozen=True)
class Files:
    """What one split gives: audio facts and speaker vectors shard by shard, labels, and vectors of its speakers.

    `speakers` is empty for a head without speaker information, `vectors` for an encoder that is not personalised.
    """

    facts: list[str]
    labels: str
    speakers: list[str] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Recipe:
    """How it is tuned: `name` and `ablation`, whose `finetune` has the settings; `fingerprint` is a digest of the code.

    `device` is `auto` (CUDA where present), `cpu` or `cuda`.
    """

    name: str
    ablation: Ablation
    seed: int
    targets: list[str]
    audio: dict
    device: str
    fingerprint: str


@dataclass(frozen=True)
class Places:
    """Where results go. `checkpoint` is there while training goes on; one left by the very same run is resumed."""

    encoder: Path
    head: Path
    history: Path
    checkpoint: Path
    tensorboard: Path


def finetune(
    base: Path,
    splits: dict[str, Files],
    weighed: tuple,
    recipe: Recipe,
    places: Places,
    memory_bytes: float = 0,
    compared: Compared | None = None,
) -> None:
    """Write the encoder (its four files and its curve, `training.csv`), the head and the head's history.

    Args:
        base: the folder of the encoder that is tuned
        splits: `train` and `validation`, by which the epoch is chosen; no other label is read
        weighed: speaker files, two lists, of the training speakers and of those whom similar-speaker weighting adapts
            to; empty without it
        memory_bytes: for what comes before all that is trained; where it is too little, that is computed in each epoch
        compared: of a personalised encoder whose vectors are tuned (`vectors` of `splits` is empty then)
    """

    def run(device: str) -> None:
        _finetune(base, splits, weighed, recipe, places, memory_bytes, compared, device)

    launch(run, recipe.device, recipe.ablation.finetune["gpus"], "finetuning")


def _finetune(
    base: Path,
    splits: dict[str, Files],
    weighed: tuple,
    recipe: Recipe,
    places: Places,
    memory_bytes: float,
    compared: Compared | None,
    device: str,
) -> None:
    ablation = recipe.ablation
    settings = ablation.finetune | {"seed": recipe.seed, "accumulate": 1}
    settings["micro_batch_seconds"] = settings["micro_batch_seconds"] or MICRO_BATCH_SECONDS[device]
    torch.set_num_threads(settings["threads"])
    check_encoder(recipe.name, ablation, base)
    hubert, extractor = pretrained.load(base)
    card = read_json(base / "card.json")
    clips = {split: _read_clips(splits[split], ablation, recipe.targets) for split in SPLITS}
    for split in SPLITS:
        if not clips[split]:
            raise DataError(f"{splits[split].labels}: no utterance has both audio that can be used and labels")
    check_size(recipe.name, ablation, len(clips["train"]))
    if ablation.weighting == "similar_speakers":
        weights = weigh_speakers(*map(read_vectors, weighed), ablation.neighbours, ablation.strength)
        clips["train"] = [clip.weigh(weights[clip.speaker_id]) for clip in clips["train"]]
    table = None
    if compared:
        table = SpeakerTable(base, compared)
        clips = {split: table.point(own) for split, own in clips.items()}
    accelerator = make_accelerator(device, settings["precision"])
    processes = accelerator.num_processes
    model = _build(recipe, settings, hubert, card, clips["train"], table.vectors if table else None)
    task = FineTuning(
        model.to(accelerator.device),
        clips,
        settings,
        recipe.audio,
        extractor.do_normalize,
        recipe.targets,
        accelerator,
        memory_bytes / processes,
        make_banks(ablation, clips, hubert.config, recipe.seed),
        name=f"ablation {recipe.name!r}: fine-tuning",
    )
    trainer = Trainer(
        task=task,
        settings=settings,
        accelerator=accelerator,
        checkpoint=places.checkpoint,
        identity=_identify(
            base, splits, [*chain(*weighed), *(compared.means if compared else [])], recipe, [device, processes]
        ),
        tensorboard=places.tensorboard,
        decays=settings["decay"],
    )
    try:
        _set_statistics(model, clips["train"], *task.measure_features())
        trainer.train()
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        keys = "micro_batch_seconds", "crop_seconds", "gradient_checkpointing"
        now = {key: json.dumps(settings[key]) for key in keys}  # as a config has them: null, true
        raise DataError(
            f"ablation {recipe.name!r}: memory ran out ({str(error).splitlines()[0]}); in {task.section}, set "
            f"micro_batch_seconds to less (now {now['micro_batch_seconds']}; the loss stays that of the whole batch), "
            f"crop_seconds to less (now {now['crop_seconds']}), or gradient_checkpointing to true (now "
            f"{now['gradient_checkpointing']})"
        ) from error
    if not accelerator.is_main_process:
        return
    if table:
        table.write(model.table, places.encoder)
    _save(trainer, model, extractor, base, clips, recipe, places)
    places.checkpoint.unlink(missing_ok=True)


def _read_clips(files: Files, ablation: Ablation, targets: list[str]) -> list[Clip]:
    """The utterances of a split with usable audio and labels, in order of id within shards."""
    labels = read_training_labels(files.labels, targets)
    rows = {utterance: row for row, utterance in enumerate(labels.utterance_ids)}
    known = read_speakers(files.speakers) if ablation.reads_speakers else {}
    vectors: dict[str, np.ndarray] = {}
    for path in files.vectors:
        vectors |= {speaker: np.array(vector, np.float32) for speaker, vector in read_json(path).items()}
    clips = []
    for path in files.facts:
        table = read_parquet(path)
        for row in table.filter(pc.equal(table["status"], "ok")).to_pylist():
            if row["utterance_id"] in rows:
                clips.append(
                    Clip(
                        row["utterance_id"],
                        row["speaker_id"],
                        row["path"],
                        row["sha256"],
                        row["duration_s"],
                        labels.values[rows[row["utterance_id"]]].astype(np.float32),
                        vector=vectors.get(row["speaker_id"]),
                        speaker=known.get(row["speaker_id"]),
                        start=row.get("start"),
                        end=row.get("end"),
                    )
                )
    return clips


def _build(recipe: Recipe, settings: dict, hubert, card: dict, clips: list[Clip], table) -> JointModel:
    ablation, config = recipe.ablation, hubert.config
    labels, first = np.stack([clip.labels for clip in clips]), clips[0].speaker
    sizes = config.num_hidden_layers + 1, config.hidden_size
    head = KerasHead(ablation, recipe.seed, *sizes, labels, recipe.name, 0 if first is None else len(first))
    reads = "frames" if ablation.reads_frames else "layers" if ablation.layer == "weighted" else "last"
    frames = {"max_frames": ablation.units["max_frames"]} if ablation.reads_frames else {}
    torch.manual_seed(recipe.seed)
    return JointModel(hubert, head, settings, reads, card.get("position"), table=table, **frames)


def _set_statistics(model: JointModel, clips: list[Clip], mean: np.ndarray, variance: np.ndarray) -> None:
    """What the head standardises by: the features' statistics before tuning, and those of the speakers' vectors."""
    set_statistics(model.head.keras, "standardise_features", mean, variance)
    speakers = {clip.speaker_id: clip.speaker for clip in clips if clip.speaker is not None}
    if speakers:
        vectors = np.stack(list(speakers.values()))
        set_statistics(model.head.keras, "standardise_speaker", vectors.mean(axis=0), vectors.var(axis=0))


def _identify(base: Path, splits: dict[str, Files], others: list[str], recipe: Recipe, rest: list) -> str:
    """A digest of all that decides the weights."""
    files = [path for f in splits.values() for path in (*f.facts, f.labels, *f.speakers, *f.vectors)]
    encoder = sorted(path for path in base.iterdir() if path.suffix in (".json", ".safetensors"))
    parts = [*map(sha256, [*files, *others, *encoder]), asdict(recipe), *rest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _save(
    trainer: Trainer, model: JointModel, extractor, base: Path, clips: dict, recipe: Recipe, places: Places
) -> None:
    best, settings, card = trainer.best, recipe.ablation.finetune, read_json(base / "card.json")
    save_model(str(places.head), model.head.keras.cpu())
    write_history(places.history, _list_history(trainer.curve, recipe.targets))
    trainer.write_curve(places.encoder / "training.csv")
    learned = best["value"] >= LEARNED
    if not learned:
        log.warning("seed %d learned nothing: its best validation CCC is %.4f", recipe.seed, best["value"])
    hours = {split: round(sum(clip.seconds for clip in clips[split]) / 3600, 4) for split in SPLITS}
    counts = {"labels": recipe.targets, "utterances": len(clips["train"]), "hours": hours["train"]}
    pretrained.save(
        merge_adapters(model.hubert),
        extractor,
        places.encoder,
        read_past(base, card["base"]) + describe_audio("train, with labels", (clip.content for clip in clips["train"])),
        weights="finetuned",
        **{key: card[key] for key in ORIGIN if key in card},
        finetuned=recipe.name,
        from_weights_sha256=card["weights_sha256"],
        seed=recipe.seed,
        trained_on={"split": "train"} | counts,
        chosen_on={"split": "validation", "labels": recipe.targets, "hours": hours["validation"]},
        epoch=best["epoch"],
        validation_ccc=best["value"],
        learned=learned,
        masking="none",
        layerdrop=0,
        settings=settings,
        origin=pretrained.read_origin(base),
    )


def _list_history(curve: list[dict], targets: list[str]) -> list[tuple]:
    """The curve as every head has it: loss, validation CCC and if it was the best, for each epoch and target."""
    rows, best, losses = [], -np.inf, []
    for row in curve:
        if row["split"] == "train":
            losses.append(row["loss"])
        elif row["epoch"]:
            better = row["ccc"] > best
            best = max(best, row["ccc"])
            loss = f"{np.mean(losses):.6f}" if losses else ""
            rows += [(row["epoch"], t, loss, f"{row[f'{t}_ccc']:.6f}", int(better)) for t in targets]
            losses = []
    return rows
