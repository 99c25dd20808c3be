"""The ablations of a checked config, by name."""

from dataclasses import replace

from ser.config.ablation import Ablation
from ser.config.finetuning import resolve_finetune
from ser.files import DataError


def resolve_ablations(config: dict) -> dict[str, Ablation]:
    """The ablations by name, in the config's order.

    `config` is what `schema.check` returned. Raises DataError for combinations that make no sense, naming the ablation.
    """
    ablations: dict[str, Ablation] = {}
    for given in config["ablations"]:
        name = given["name"]
        where = f"config: ablations: {name!r}"
        if name in ablations:
            raise DataError(f"{where} is there twice")
        settings = {"encoder": next(iter(config["encoders"]))} | {k: v for k, v in given.items() if k != "name"}
        settings["units"] = config["heads"][settings["head"]]
        if "finetune" in given:
            encoder = config["encoders"].get(settings["encoder"], {})
            settings["finetune"] = tune = resolve_finetune(given, config["finetuning"], encoder, where)
            settings["training"] = {"dropout": tune["dropout"], "threads": config["training"]["threads"]}
        else:
            settings["training"] = config["training"] | settings.get("training", {})
        ablation = Ablation(**settings)
        if ablation.encoder not in config["encoders"]:
            known = ", ".join(config["encoders"])
            raise DataError(f"{where}: encoder {ablation.encoder!r} is not under encoders: {known}")
        if (ablation.speaker == "none") != (ablation.fusion == "none"):
            raise DataError(
                f"{where}: speaker is {ablation.speaker!r} but fusion is {ablation.fusion!r}; "
                "either both are 'none' or neither is"
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


def check_primary(config: dict, ablations: dict[str, Ablation]) -> str:
    """The ablation whose calibration is tested first (`evaluation.primary`); a DataError if it is none of them."""
    primary = config["evaluation"]["primary"] or config["baseline"]
    if primary not in ablations:
        raise DataError(f"config: evaluation.primary: {primary!r} is none of the ablations: {', '.join(ablations)}")
    return primary
