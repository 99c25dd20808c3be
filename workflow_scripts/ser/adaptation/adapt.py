"""Adaptive pre-training of an encoder by masked prediction on a corpus: TAPT, and PAPT with a vector per speaker.

Task-adaptive (TAPT) and personalised adaptive pre-training (PAPT) as in Tran, Yin and Soleymani (Interspeech 2023):
HuBERT's loss, Adam, a linear schedule with warm-up.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ser.adaptation.batches import SHORTEST, Clip
from ser.adaptation.clusters import read_clusters, read_clusters_past, read_frame_labels
from ser.adaptation.masked_prediction import MaskedPrediction
from ser.adaptation.neighbours import place_speakers, read_means
from ser.adaptation.prediction_head import load_head, save_head
from ser.adaptation.task import Pretraining
from ser.audio.frames import FRAMES_A_SECOND
from ser.encoders import pretrained
from ser.encoders.past import describe_audio, read_past, tell_labels
from ser.files import DataError, sha256
from ser.formats.encoder_folder import HEAD, check_impersonal
from ser.formats.manifest import Utterance
from ser.formats.manifest import read as read_manifest
from ser.optimisation.trainer import Trainer, launch, make_accelerator

log = logging.getLogger(__name__)

# of a validation speaker; not the encoder's `neighbours`, with another number of which it need not be trained again
CURVE_NEIGHBOURS = 4


@dataclass(frozen=True)
class Sources:
    """What an encoder is adapted from.

    `base` and `revision` are as `pretrained.prepare` takes them; `shards` are manifests and pseudo-labels, shard by
    shard, of `train` (all that is trained on) and of `validation` (where the curve is measured; nothing is chosen by
    it); `clusters` are the centroids behind the pseudo-labels; `speaker_means`, with PAPT, summaries of another encoder
    by speaker, for the neighbours of validation speakers.
    """

    base: str
    revision: str | None
    shards: dict[str, tuple[list[str], list[str]]]
    clusters: str
    speaker_means: list[str]

    @property
    def files(self) -> list[str]:
        return [path for pair in self.shards.values() for paths in pair for path in paths] + [
            self.clusters,
            *self.speaker_means,
        ]


@dataclass(frozen=True)
class Recipe:
    """How it is adapted: `options` are `adaptation` (tapt or papt), `position` and `splits` (those behind `train`),
    `settings` the config's `pretraining`; `fingerprint` is a digest of the code.
    """

    options: dict
    settings: dict
    audio: dict
    fingerprint: str


@dataclass(frozen=True)
class Places:
    """Where results go. `checkpoint` is there while training goes on; one left by the very same run is resumed."""

    out_dir: Path
    checkpoint: Path
    tensorboard: Path


def adapt(sources: Sources, recipe: Recipe, places: Places, device: str) -> None:
    """Write an adapted encoder: the files of any, `adaptation.safetensors` and its curve, `training.csv`.

    `device` is `auto` (CUDA where present), `cpu` or `cuda`; `settings` says how many GPUs of this machine.
    """

    def run(device: str) -> None:
        _adapt(sources, recipe, places, device)

    launch(run, device, recipe.settings["gpus"], "pretraining")


def _adapt(sources: Sources, recipe: Recipe, places: Places, device: str) -> None:
    options, settings = recipe.options, recipe.settings
    torch.set_num_threads(settings["threads"])
    accelerator = make_accelerator(device, settings["precision"])
    folder, commit = pretrained.fetch(sources.base, sources.revision)
    check_impersonal(folder)
    hubert, extractor = pretrained.load(folder)
    centroids = read_clusters(sources.clusters)
    heard = {split: _read_utterances(*sources.shards[split]) for split in ("train", "validation")}
    speakers = (
        sorted({utterance.speaker_id for utterance, _ in heard["train"]}) if options["adaptation"] == "papt" else []
    )
    clips = _select(heard, _place(speakers, sources.speaker_means))
    if not clips["train"]:
        raise DataError(
            f"adaptation: no utterance of {', '.join(options['splits'])} lasts {SHORTEST / FRAMES_A_SECOND} s"
        )
    torch.manual_seed(settings["seed"])
    model = MaskedPrediction(
        hubert,
        len(centroids),
        len(speakers),
        options["position"],
        settings["code_width"],
        settings["temperature"],
        settings["feature_penalty"],
    )
    continued = load_head(model, folder / HEAD, centroids)
    name = f"encoder {places.out_dir.name!r}: adaptation"
    which = "the base's" if continued else "a new"
    log.info("%s of %s with %s prediction head", options["adaptation"], sources.base, which)
    trainer = Trainer(
        task=Pretraining(model, clips, settings, recipe.audio, extractor.do_normalize, accelerator, name),
        settings=settings,
        accelerator=accelerator,
        checkpoint=places.checkpoint,
        identity=_identify(sources, recipe, folder, [device, accelerator.num_processes]),
        tensorboard=places.tensorboard,
    )
    trainer.train()
    if not accelerator.is_main_process:
        return
    save_head(model, centroids, speakers, places.out_dir / HEAD)
    trainer.write_curve(places.out_dir / "training.csv")
    origin = pretrained.read_origin(folder)
    own = describe_audio(", ".join(options["splits"]), (clip.utterance.content for clip in clips["train"]))
    pretrained.save(
        model.hubert,
        extractor,
        places.out_dir,
        read_past(folder, sources.base) + read_clusters_past(sources.clusters) + own,
        base=sources.base,
        revision=sources.revision,
        commit=commit,
        weights="pretrained",
        adaptation=options["adaptation"],
        position=options["position"] if speakers else None,
        hours=round(sum(len(clip.labels) for clip in clips["train"]) / FRAMES_A_SECOND / 3600, 4),
        speakers=len(speakers),
        clusters=len(centroids),
        settings=settings,
        trained_on=tell_labels(origin),
        origin=origin,
    )
    places.checkpoint.unlink(missing_ok=True)


def _identify(sources: Sources, recipe: Recipe, folder: Path, rest: list) -> str:
    """A digest of all that decides the weights."""
    encoder = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    parts = [*map(sha256, [*sources.files, *encoder]), asdict(recipe), *rest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read_utterances(manifest_paths: list[str], label_paths: list[str]) -> list[tuple[Utterance, np.ndarray]]:
    """The utterances of shards that have labels, with those of their frames, in order of id."""
    utterances = []
    for manifest, path in zip(manifest_paths, label_paths, strict=True):
        labels = {row[0]: row[1:] for row in read_frame_labels(path)}
        for utterance in read_manifest(manifest):
            if utterance.utterance_id in labels:
                _, digest, frames = labels[utterance.utterance_id]
                if digest != utterance.sha256:
                    raise DataError(f"{path}: the labels of {utterance.utterance_id} are of other audio; delete it")
                utterances.append((utterance, frames))
    return utterances


def _place(speakers: list[str], means: list[str]) -> dict[str, list[int]]:
    """Rows of the speaker table: a speaker's own, or those of similar speakers that it has; none without a table."""
    if not speakers:
        return {}
    number = {speaker: row for row, speaker in enumerate(speakers)}
    placed = place_speakers(read_means(means), speakers, CURVE_NEIGHBOURS)
    rows = {speaker: [number[name] for name in names] for speaker, names in placed.items()}
    return rows | {speaker: [row] for speaker, row in number.items()}


def _select(heard: dict[str, list], rows: dict[str, list[int]]) -> dict[str, list[Clip]]:
    """Those long enough, with the rows of their speakers in the table; speakers of one batch have as many rows."""
    most, clips = max(map(len, rows.values()), default=0), {}
    for split, utterances in heard.items():
        clips[split] = [
            Clip(utterance, labels, (rows[utterance.speaker_id] * most)[:most] if rows else [])
            for utterance, labels in utterances
            if len(labels) >= SHORTEST
        ]
        log.info("%s: %d of %d utterances, the others too short", split, len(clips[split]), len(utterances))
    return clips
