"""Changes of a finished project, and the jobs that each should cause, written out independently of the rules."""

import hashlib
import shutil
from collections.abc import Callable
from typing import NamedTuple

from changes import (
    add_ablation,
    add_split,
    add_utterance,
    change_ablation,
    change_config,
    change_encoder,
    change_gender,
    change_label,
    change_top_level,
    edit,
    move_checkout,
    move_speaker,
    remove_ablation,
    remove_utterances,
    replace,
    rewrite_sheet,
    swap,
    touch,
)

EMBED = {"plain": "embed_shard", "framed": "embed_shard_with_frames"}
SPLITS = ("train", "validation", "test")
SHARDS = ("000", "001")
SCORED = {"score", "score_groups", "record_provenance", "write_model_cards", "study_label_shift"}
TABLES = {"check_protocol", *SCORED}
GROUPED = {"score_groups", "record_provenance", "write_model_cards"}  # whose provenance has the table's digest
DESCRIBED = {"describe_corpus", "check_audio"} | TABLES  # what was set aside is counted before anything is scored
MEASURED = {f"measure_audio {split} {shard}" for split in SPLITS for shard in SHARDS} | DESCRIBED
PREPARED = {"prepare_encoder plain", "prepare_encoder framed"}
LABELS = {f"build_labels {split}" for split in SPLITS} | DESCRIBED


def embedded(*encoders):
    """The embedding of the whole corpus."""
    jobs = {f"{EMBED[encoder]} {encoder} {split} {s}" for encoder in encoders for split in SPLITS for s in SHARDS}
    return jobs | {f"summarise_embeddings {encoder} {split}" for encoder in encoders for split in ("train", "test")}


def features(split, *shards):
    """Everything that is made of the audio of a split's shards."""
    jobs = {f"{EMBED[encoder]} {encoder} {split} {shard}" for encoder in EMBED for shard in shards}
    jobs |= {f"summarise_embeddings {encoder} {split}" for encoder in EMBED if split != "validation"}
    return jobs | {f"measure_audio {split} {shard}" for shard in shards} | DESCRIBED


def labels(split):
    return {f"build_labels {split}"} | DESCRIBED


def scores(split, *ablations):
    """From new features of a test split to the tables."""
    jobs = {f"{rule} {ablation} {split}" for rule in ("predict_split", "calibrate") for ablation in ablations}
    return jobs | TABLES


def calibration(*ablations):
    """From choosing k to the tables."""
    chosen = {f"choose_calibration {ablation}" for ablation in ablations}
    return chosen | {f"calibrate {a} {split}" for a in ablations for split in ("validation", "test")} | TABLES


def training(*ablations):
    """From training to the tables."""
    return (
        {f"train_ablation {ablation}" for ablation in ablations} | calibration(*ablations) | scores("test", *ablations)
    )


class Change(NamedTuple):
    name: str
    make: Callable
    expected: set[str]


BOTH = ("base", "fused")

# The utterances of speaker `test 0` in the order in which the one draw enrols them; `labels` takes one, with its label.
ENROLLED = sorted(
    (f"u{n}.wav" for n in range(4)), key=lambda name: hashlib.sha256(f"0 test_0/{name}".encode()).hexdigest()
)
CHANGES = [
    Change("nothing", lambda p: None, set()),
    Change("touch", lambda p: touch(p, None), set()),
    Change("touch with an old date", lambda p: touch(p, (10**9, 10**9)), set()),
    Change("checkout elsewhere", move_checkout, set()),
    Change("sheet rewritten", rewrite_sheet, set()),
    Change("lost index", lambda p: shutil.rmtree(p.work / "results" / "manifests"), set()),
    Change("audio, training", lambda p: replace(p, "train_0/u0.wav"), features("train", "000") | training(*BOTH)),
    Change(
        "audio, validation",
        lambda p: replace(p, "validation_0/u0.wav"),
        features("validation", "000") | training(*BOTH),
    ),
    Change("audio, test", lambda p: replace(p, "test_4/u0.wav"), features("test", "001") | scores("test", *BOTH)),
    Change(
        "audio swapped, test",
        lambda p: swap(p, "test_4/u0.wav", "test_4/u1.wav"),
        features("test", "001") | scores("test", *BOTH),
    ),
    Change(
        "utterance more, test",
        lambda p: add_utterance(p, "test_4/new.wav", "test 4", "test"),
        labels("test") | features("test", "001") | scores("test", *BOTH),
    ),
    Change(
        "utterance less, test",
        lambda p: remove_utterances(p, "test 4", "test_4/u0.wav"),
        labels("test") | features("test", "001") | scores("test", *BOTH),
    ),
    Change(
        "speaker more, test",
        lambda p: add_utterance(p, "extra/new.wav", "extra 0", "test"),  # in shard 000
        labels("test") | features("test", "000") | scores("test", *BOTH),
    ),
    Change(
        "speaker less, test",
        lambda p: remove_utterances(p, "test 0"),
        labels("test") | features("test", "000") | scores("test", *BOTH),
    ),
    Change(
        "speaker less, training",
        lambda p: remove_utterances(p, "train 1"),
        labels("train") | features("train", "001") | training(*BOTH),
    ),
    Change(
        "shard less, test",  # its only speaker
        lambda p: remove_utterances(p, "test 4"),
        labels("test") | {f"summarise_embeddings {encoder} test" for encoder in EMBED} | scores("test", *BOTH),
    ),
    Change(
        "speaker from training to test",
        lambda p: move_speaker(p, "train 1", "test"),
        labels("train") | labels("test") | features("train", "001") | features("test", "001") | training(*BOTH),
    ),
    Change("split more", add_split, labels("second") | features("second", "001") | scores("second", *BOTH)),
    Change("label, training", lambda p: change_label(p, "train_1/u0.wav"), labels("train") | training(*BOTH)),
    Change(
        "label, validation", lambda p: change_label(p, "validation_1/u0.wav"), labels("validation") | training(*BOTH)
    ),
    Change("gender, test", lambda p: change_gender(p, "test 0"), GROUPED),
    Change("gender, training", lambda p: change_gender(p, "train 0"), set()),
    Change(
        "no groups",
        lambda p: change_config(p, "corpus", groups=[]),
        {"record_provenance", "write_model_cards"},
    ),
    Change("label, test", lambda p: change_label(p, f"test_0/{ENROLLED[-1]}"), labels("test") | TABLES),
    Change(
        "label of an enrolled utterance, test",
        lambda p: change_label(p, f"test_0/{ENROLLED[0]}"),
        labels("test") | {f"calibrate {ablation} test" for ablation in BOTH} | TABLES,
    ),
    Change(
        "target less", lambda p: change_config(p, "corpus", targets=["valence", "arousal"]), LABELS | training(*BOTH)
    ),
    Change("baseline", lambda p: change_top_level(p, baseline="fused"), SCORED),
    Change("ablation changed", lambda p: change_ablation(p, "base", outputs="separate"), training("base")),
    Change(
        "ablation more",
        lambda p: add_ablation(p, name="third", encoder="plain", layer=1),
        training("third"),
    ),
    Change(
        "frames",  # of an encoder of which no head has read any
        lambda p: add_ablation(p, name="third", encoder="plain", head="transformer"),
        {f"embed_shard_with_frames plain {split} {shard}" for split in SPLITS for shard in SHARDS}
        | {f"summarise_embeddings plain {split}" for split in ("train", "test")}
        | training("base", "third"),
    ),
    Change("ablation less", lambda p: remove_ablation(p, "fused"), TABLES),
    Change("seed more", lambda p: change_top_level(p, seeds=[1, 2]), training(*BOTH)),
    Change("seed less", lambda p: change_top_level(p, seeds=[2]), training(*BOTH)),
    Change("PLDC grid", lambda p: change_config(p, "calibration", k=[1, 2, 3]), calibration(*BOTH)),
    Change(
        "audio limits",
        lambda p: change_top_level(p, audio={"max_seconds": 500}),
        MEASURED | embedded(*EMBED) | training(*BOTH),
    ),
    Change(
        "audio that may be set aside",
        lambda p: change_top_level(p, audio={"max_rejected_share": 0.5}),
        {"check_audio"} | TABLES,
    ),
    Change("number type", lambda p: change_encoder(p, "plain", dtype="float32"), embedded("plain") | training("base")),
    Change("threads", lambda p: change_encoder(p, "plain", threads=2), {"record_provenance", "write_model_cards"}),
    Change("utterances that count", lambda p: change_config(p, "evaluation", min_utterances=3), calibration(*BOTH)),
    Change(
        "calibration that is studied",
        lambda p: change_config(p, "evaluation", shift_calibration="mfcc"),
        SCORED - {"score_groups"},
    ),
    Change(
        "bootstrap",  # of correlations
        lambda p: change_config(p, "evaluation", bootstrap_draws=101),
        {"study_label_shift", "record_provenance", "write_model_cards"},
    ),
    Change("epochs", lambda p: change_config(p, "training", epochs=3), training(*BOTH)),
    Change(
        "frames layer", lambda p: change_encoder(p, "framed", frames_layer=1), embedded("framed") | training("fused")
    ),
    Change(
        "encoder weights",
        lambda p: p.scale_encoder("plain", 1.1),
        {"prepare_encoder plain"} | embedded("plain") | training("base"),
    ),
    Change("mfcc.py", lambda p: edit(p, "ser/audio/mfcc.py"), MEASURED | training("fused") | calibration("base")),
    Change("engine.py", lambda p: edit(p, "ser/encoders/engine.py"), embedded(*EMBED) | training(*BOTH)),
    Change("encoder", lambda p: edit(p, "ser/encoders/pretrained.py"), PREPARED | embedded(*EMBED) | training(*BOTH)),
    Change("training.py", lambda p: edit(p, "ser/heads/training.py"), training(*BOTH)),
    Change("pldc.py", lambda p: edit(p, "ser/statistics/pldc.py"), calibration(*BOTH)),
    Change("calibration.py", lambda p: edit(p, "ser/evaluation/calibration.py"), calibration(*BOTH)),
    Change("tables.py", lambda p: edit(p, "ser/evaluation/tables.py"), SCORED - {"score_groups"}),
    Change("groups.py", lambda p: edit(p, "ser/evaluation/groups.py"), GROUPED),
    Change("metadata.py", lambda p: edit(p, "ser/corpus/metadata.py"), DESCRIBED),
    Change("label_shift.py", lambda p: edit(p, "ser/evaluation/label_shift.py"), {"study_label_shift"}),
    Change("index.py", lambda p: edit(p, "ser/corpus/index.py"), set()),
    Change("predict_split.py", lambda p: edit(p, "predict_split.py"), scores("test", *BOTH)),
    Change("build_labels.py", lambda p: edit(p, "build_labels.py"), LABELS | training(*BOTH)),
]
