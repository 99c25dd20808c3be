"""How the encoder of an ablation is fine-tuned, from a checked config."""

from pathlib import Path

from ser.config.ablation import Ablation
from ser.files import DataError, read_json

FOLDER = "finetuned"  # in results/, and before the names of encoders that were fine-tuned
ONE_METHOD = {"layers": "top", "rank": "lora"}  # settings that only one method has


def resolve_finetune(given: dict, shared: dict, encoder: dict, where: str) -> dict:
    """An ablation's `finetune` with the settings that it shares with others; what does not apply is left out.

    `encoder` is the config's section of the encoder that is tuned. Raises DataError, beginning with `where`, for
    settings that do not go together.
    """
    own = given["finetune"]
    settings = shared | own
    for key, value in {"training": {}, "tuned": None, "outputs": "joint"}.items():
        if given.get(key, value) != value:
            raise DataError(f"{where}: {key} does not go with finetune; {_INSTEAD[key]}")
    if given.get("layer", -1) not in (-1, "weighted"):
        raise DataError(
            f"{where}: layer is {given['layer']!r}, but finetune trains the layers for a head that reads the last one "
            "(leave out layer), or all of them (layer: weighted)"
        )
    if not settings["learning_rate"] and settings["head_learning_rate"] is None:
        raise DataError(
            f"{where}: finetune: learning_rate is 0, and so is the head's where head_learning_rate is null, so that "
            "nothing is trained; set head_learning_rate"
        )
    if settings["decay"] and settings["patience"] < settings["epochs"]:
        raise DataError(
            f"{where}: finetune: with decay the step size falls to 0 at the last of {settings['epochs']} epochs, but "
            f"patience {settings['patience']} may end training before; set patience to {settings['epochs']}"
        )
    for key, method in ONE_METHOD.items():
        if settings["method"] != method:
            if key in own:
                raise DataError(f"{where}: finetune: {key} has a meaning with method {method} alone")
            settings = {name: value for name, value in settings.items() if name != key}
    return settings | {"vectors": _resolve_vectors(settings, own, encoder, where)}


def _resolve_vectors(settings: dict, own: dict, encoder: dict, where: str) -> str:
    if settings["vectors"] == "tuned" and encoder.get("adaptation") != "papt":
        if "vectors" in own:
            raise DataError(f"{where}: finetune: vectors has a meaning with an encoder of adaptation papt alone")
        return "frozen"
    if settings["vectors"] == "tuned" and encoder["position"] != "last" and settings["method"] != "whole":
        raise DataError(
            f"{where}: finetune: vectors is tuned, but they stand before the first layer (position: "
            f"{encoder['position']}), where method {settings['method']} trains nothing; take method whole"
        )
    return settings["vectors"]


_INSTEAD = {
    "training": "its settings are those of finetuning, or stand in finetune itself",
    "tuned": "tuning compares heads on an encoder that stays as it is",
    "outputs": "one encoder is trained for all targets; for one model per target run a study for each (corpus.targets)",
}


def check_encoder(name: str, ablation: Ablation, folder: str | Path) -> None:
    """Raise DataError where the encoder in a folder cannot be fine-tuned as the ablation says."""
    config, settings = read_json(Path(folder) / "config.json"), ablation.finetune
    where, encoder = f"config: ablations: {name!r}: finetune", f"encoder {ablation.encoder!r}"
    layers, width = config.get("num_hidden_layers"), config.get("hidden_size")
    if settings["method"] == "top" and layers and settings["layers"] > layers:
        raise DataError(f"{where}: layers is {settings['layers']}, but {encoder} has {layers}")
    if settings["method"] == "lora" and width and settings["rank"] > width:
        raise DataError(f"{where}: rank is {settings['rank']}, above the width of {encoder}, {width}")


def check_size(name: str, ablation: Ablation, utterances: int) -> None:
    """Raise DataError where the training split does not fill a batch, or a batch has nothing for one of the GPUs."""
    size, gpus = ablation.finetune["batch_size"], ablation.finetune["gpus"]
    if utterances < size:
        raise DataError(
            f"ablation {name!r}: the training split has {utterances} utterances, fewer than a batch; set "
            f"finetuning: batch_size to {utterances} or less (now {size})"
        )
    smallest = utterances // -(-utterances // size)  # of as few batches as hold all, see `task.plan_batches`
    if gpus > smallest:
        raise DataError(
            f"ablation {name!r}: finetuning: gpus is {gpus}, but of {utterances} utterances in batches of {size} or "
            f"less one has {smallest}: a GPU would have none of it; set gpus to {smallest} or less"
        )


def name_encoder(ablation: str, seed: int | str) -> str:
    """What the encoder of one seed of an ablation is called, in paths."""
    return f"{FOLDER}/{ablation}/seed-{seed}"


def describe_method(settings: dict) -> str:
    """A few words for tables."""
    return {
        "whole": "fine-tuned",
        "top": f"top {settings.get('layers')} layers fine-tuned",
        "lora": f"lora {settings.get('rank')}",
    }[settings["method"]]
