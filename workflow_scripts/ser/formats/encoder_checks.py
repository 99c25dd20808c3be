"""What an encoder that is here already says of the config, before any work.

Its configuration is read as plain JSON: transformers would take seconds of every plan.
"""

from collections.abc import Iterable
from pathlib import Path

from ser.config.ablation import Ablation
from ser.config.speaker_vectors import SpeakerVectors
from ser.files import DataError, read_json
from ser.formats.encoder_families import FAMILIES, SPEAKER_FAMILIES, find_bundle_fault, read_family
from ser.formats.encoder_folder import check_impersonal

MADE = Path("results/encoders")


def check_base(name: str, encoder: dict) -> None:
    """Raise DataError for a local folder that has a revision, is personalised, or does not say what kind it is of."""
    _read_kind(f"config: encoders.{name}", "base", encoder["base"], encoder["revision"], FAMILIES)


def check_speaker_model(vectors: SpeakerVectors) -> None:
    """Raise DataError for a local folder that has a revision, or that plainly holds no model for speaker verification.

    Its configuration names the class of model that was saved; where it does not, the weights say later.
    """
    where = f"config: speaker_vectors.{vectors.name}"
    kind = _read_kind(where, "model", vectors.source, vectors.revision, SPEAKER_FAMILIES)
    if kind is None:
        return
    path = Path(vectors.source, "config.json")
    if kind not in SPEAKER_FAMILIES:
        raise DataError(
            f"{where}.model: {path}: model_type is {kind!r}, expected one of {', '.join(SPEAKER_FAMILIES)}, of which "
            "there are models for speaker verification"
        )
    classes = read_json(path).get("architectures")
    if isinstance(classes, list) and classes and not any(str(each).endswith("ForXVector") for each in classes):
        raise DataError(
            f"{where}.model: {path}: architectures is {', '.join(map(str, classes))}, expected a class ForXVector: it "
            "is an encoder, or a model of another task"
        )


def _read_kind(where: str, key: str, base: str, revision: str | None, known: Iterable[str]) -> str | None:
    """The `model_type` of a local folder, which has no revision; None of what is no folder."""
    folder = Path(base)
    if not folder.is_dir():
        return None
    if revision is not None:
        raise DataError(
            f"{where}: {key} {base!r} is a local folder, and revision {revision!r} has a meaning "
            "for a hub id alone: leave it out, or rename the folder if the hub's model is meant"
        )
    try:
        kind = read_family(folder)
        check_impersonal(folder)
    except DataError as error:
        raise DataError(f"{where}.{key}: {error}") from None
    if not kind:
        raise DataError(f"{where}.{key}: {folder / 'config.json'}: has no model_type, as in {', '.join(known)}")
    return kind


def find_folder(name: str, encoders: dict[str, dict]) -> Path | None:
    """A folder with an encoder's `config.json`, if it is here: a local base, or what was made of a hub's model."""
    origin = [encoders[name]["base"], encoders[name]["revision"]]
    if Path(origin[0]).is_dir():
        return Path(origin[0])
    for other, encoder in encoders.items():
        made = MADE / other
        if [encoder["base"], encoder["revision"]] == origin and (made / "config.json").is_file():
            card = read_json(made / "card.json") if (made / "card.json").is_file() else {}
            if [card.get("base"), card.get("revision")] == origin:  # and of no earlier config
                return made
    return None


def check_layers(
    name: str,
    encoders: dict[str, dict],
    ablations: dict[str, Ablation],
    pseudo_labels: dict[str, dict],
    vectors: dict[str, SpeakerVectors],
) -> None:
    """Raise DataError for a layer that is none of an encoder's, wherever the config names one; not if it is not here.

    Layer 0 is the input of the first layer, -1 the last.
    """
    encoder, folder = encoders[name], find_folder(name, encoders)
    if folder is None:
        return
    if (layers := _count_layers(folder)) is None:
        return
    named = {f"encoders.{name}: frames_layer": encoder["frames_layer"]}
    named |= {f"ablations: {key!r}: layer": each.layer for key, each in ablations.items() if each.encoder == name}
    named |= {
        f"pseudo_labels.{key}: layer": labels["layer"]
        for key, labels in pseudo_labels.items()
        if labels["features"] == "layer" and labels["encoder"] == name
    }
    named |= {
        f"speaker_vectors.{key}: layer": each.layer
        for key, each in vectors.items()
        if each.kind == "embeddings" and each.source == name
    }
    for where, layer in named.items():
        if isinstance(layer, int) and not -layers - 1 <= layer <= layers:
            raise DataError(
                f"config: {where} is {layer}, but encoder {name!r} has layers 0 to {layers} (-1 is the last)"
            )


def check_bundled(bundles: dict[str, dict], ablations: dict[str, Ablation], encoders: dict[str, dict]) -> None:
    """Raise DataError for a bundle of an encoder that bundles do not know, or placed by one; not if it is not here."""
    for bundle, settings in bundles.items():
        name = ablations[settings["ablation"]].encoder
        for each in filter(None, (name, encoders[name].get("similarity"))):
            folder = find_folder(each, encoders)
            if folder and (fault := find_bundle_fault(read_family(folder))):
                raise DataError(f"config: bundles.{bundle}: encoder {each!r}: {fault}")


def _count_layers(folder: Path) -> int | None:
    """How many layers the encoder in a folder has; None where its files do not say it plainly."""
    files = {"card.json": "layers"} | ({"config.json": "num_hidden_layers"} if read_family(folder) in FAMILIES else {})
    for name, key in files.items():
        values = read_json(folder / name) if (folder / name).is_file() else None
        if isinstance(values, dict) and isinstance(values.get(key), int):
            return values[key]
    return None
