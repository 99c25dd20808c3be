"""The ablations of a checked config, by name."""

from dataclasses import replace

from ser.config.ablation import Ablation
from ser.config.finetuning import resolve_finetune
from ser.config.speaker_vectors import check_named, resolve_speaker_vectors
from ser.files import DataError

LEAST_SPREAD = 5  # utterances
ATTENDED = 5  # where an ablation does not say how many
# What only some ablations have a use for: the setting that they have, and its value.
USES = {"attended": ("fusion", "attention")}
USES |= dict.fromkeys(("similarity", "neighbours", "strength"), ("weighting", "similar_speakers"))


def resolve_ablations(config: dict) -> dict[str, Ablation]:
    """The ablations by name, in the config's order.

    `config` is what `schema.check` returned. Raises DataError for combinations that make no sense, naming the ablation.
    """
    ablations: dict[str, Ablation] = {}
    vectors = [name for name in resolve_speaker_vectors(config) if name != "fused"]  # that is made of an ablation
    for given in config["ablations"]:
        name = given["name"]
        where = f"config: ablations: {name!r}"
        if name in ablations:
            raise DataError(f"{where} is there twice")
        settings = {"encoder": next(iter(config["encoders"]))} | {k: v for k, v in given.items() if k != "name"}
        if settings["encoder"] not in config["encoders"]:
            known = ", ".join(config["encoders"])
            raise DataError(f"{where}: encoder {settings['encoder']!r} is not under encoders: {known}")
        settings["units"] = config["heads"][settings["head"]]
        if "finetune" in given:
            encoder = config["encoders"][settings["encoder"]]
            settings["finetune"] = tune = resolve_finetune(given, config["finetuning"], encoder, where)
            settings["training"] = {"dropout": tune["dropout"], "threads": config["training"]["threads"]}
        else:
            settings["training"] = config["training"] | settings.get("training", {})
        ablation = Ablation(**_resolve_others(settings, where))
        check_named(f"{where}: speaker", ablation.speaker, vectors, "none")
        check_named(f"{where}: similarity", ablation.similarity, vectors)
        if (ablation.speaker == "none") != (ablation.fusion in ("none", "attention")):
            raise DataError(
                f"{where}: speaker is {ablation.speaker!r} but fusion is {ablation.fusion!r}; "
                "either both are 'none' or neither is (attention looks at utterances, and goes with speaker: none)"
            )
        if ablation.reads_frames and ablation.layer is not None:
            raise DataError(
                f"{where}: a transformer head reads the frames of encoders.{ablation.encoder}.frames_layer; "
                "leave out layer"
            )
        frames_layer = config["encoders"][ablation.encoder]["frames_layer"]
        if ablation.finetune and ablation.reads_frames and frames_layer != -1:
            raise DataError(
                f"{where}: finetune trains for a head that reads the last layer, but encoders.{ablation.encoder}."
                f"frames_layer is {frames_layer}; set it to -1"
            )
        if not ablation.reads_frames and ablation.layer is None:
            ablation = replace(ablation, layer=-1 if ablation.finetune else "weighted")
        ablations[name] = ablation
    if config["baseline"] not in ablations:
        raise DataError(f"config: baseline: {config['baseline']!r} is none of the ablations: {', '.join(ablations)}")
    return ablations


def _resolve_others(settings: dict, where: str) -> dict:
    """The settings by which an ablation uses other utterances of the speaker; None for what does not apply."""
    for key, (other, value) in USES.items():
        if key in settings and settings[other] != value:
            raise DataError(f"{where}: {key} is of {other}: {value}, but {other} is {settings[other]}; leave out {key}")
    normalised, attends = settings["normalise"] != "none", settings["fusion"] == "attention"
    attended = settings.get("attended", ATTENDED) if attends else None
    if normalised and settings.get("finetune") is not None and settings["head"] == "transformer":
        raise DataError(
            f"{where}: beside finetune, normalise is of features averaged over time, not of frames: it goes with "
            "head: mlp"
        )
    if attends and settings["head"] == "transformer":
        raise DataError(f"{where}: attention looks at utterances averaged over time: it goes with head: mlp")
    if settings["enrolment"] and not normalised:
        raise DataError(f"{where}: enrolment is of normalise, which is none; attention has attended")
    if settings["normalise"] == "speaker" and 0 < settings["enrolment"] < LEAST_SPREAD:
        raise DataError(
            f"{where}: enrolment is {settings['enrolment']}: the spread of fewer than {LEAST_SPREAD} utterances is "
            "mostly chance; use more, or normalise: speaker_mean"
        )
    if settings["permuted"] and not (normalised or attends):
        raise DataError(f"{where}: permuted is the control of normalise and attention; of speaker it is its `permute`")
    if settings["permuted"] and attended == 0 and not normalised:
        raise DataError(f"{where}: permuted takes another speaker's utterances, but attended is 0: it looks at none")
    return settings | {
        "normalise": settings["normalise"] if normalised else None,
        "enrolment": (settings["enrolment"] or None) if normalised else None,
        "attended": attended,
        "permuted": settings["permuted"] or None,
    }


def check_primary(config: dict, ablations: dict[str, Ablation]) -> str:
    """The ablation whose calibration is tested first (`evaluation.primary`); a DataError if it is none of them."""
    primary = config["evaluation"]["primary"] or config["baseline"]
    if primary not in ablations:
        raise DataError(f"config: evaluation.primary: {primary!r} is none of the ablations: {', '.join(ablations)}")
    return primary
