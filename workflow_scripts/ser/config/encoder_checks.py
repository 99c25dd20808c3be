"""What the configuration of an encoder that is here already says of the config, before any work; as plain JSON."""

from pathlib import Path

from ser.config.ablation import Ablation
from ser.files import DataError, name_path, read_json

KINDS = ("hubert",)  # values of `model_type` that can be read
MADE = Path("results/encoders")


def check_base(name: str, encoder: dict) -> None:
    """Raise DataError for a local folder that has a revision, or is of another kind of model."""
    where, base = f"config: encoders.{name}", Path(encoder["base"])
    if not base.is_dir():
        return
    if encoder["revision"] is not None:
        raise DataError(
            f"{where}: base {encoder['base']!r} is a local folder, and revision {encoder['revision']!r} has a meaning "
            "for a hub id alone: leave it out, or rename the folder if the hub's model is meant"
        )
    if not (base / "config.json").is_file():
        raise DataError(
            f"{where}: base {encoder['base']!r} has no config.json; expected a model in Hugging Face format"
        )
    values = read_json(base / "config.json")
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind not in KINDS:
        raise DataError(f"{base / 'config.json'}: model_type is {kind!r}, expected {' or '.join(map(repr, KINDS))}")


def find_folder(name: str, encoder: dict) -> Path | None:
    """The folder with an encoder's `config.json`, if it is here: a local base, or what was made of the hub's model."""
    base, made = Path(encoder["base"]), MADE / name
    if base.is_dir():
        return base
    if not (made / "card.json").is_file() or not (made / "config.json").is_file():
        return None
    card = read_json(made / "card.json")
    same = card.get("base") == name_path(encoder["base"]) and card.get("revision") == encoder["revision"]
    return made if same else None


def check_layers(name: str, encoder: dict, ablations: dict[str, Ablation], pseudo_labels: dict[str, dict]) -> None:
    """Raise DataError for a layer that is none of an encoder's, wherever the config names one; none if it is not here.

    Layer 0 is the input of the first layer, -1 the last.
    """
    folder = find_folder(name, encoder)
    if folder is None:
        return
    config = read_json(folder / "config.json")
    layers = config.get("num_hidden_layers") if isinstance(config, dict) else None
    if not isinstance(layers, int):
        return
    named = {f"encoders.{name}: frames_layer": encoder["frames_layer"]}
    named |= {f"ablations: {key!r}: layer": each.layer for key, each in ablations.items() if each.encoder == name}
    named |= {
        f"pseudo_labels.{key}: layer": labels["layer"]
        for key, labels in pseudo_labels.items()
        if labels["features"] == "layer" and labels["encoder"] == name
    }
    for where, layer in named.items():
        if isinstance(layer, int) and not -layers - 1 <= layer <= layers:
            raise DataError(
                f"config: {where} is {layer}, but encoder {name!r} has layers 0 to {layers} (-1 is the last)"
            )
