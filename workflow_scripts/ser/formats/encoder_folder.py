"""The files of an encoder's folder in Hugging Face format: which are read, so that those and no others are digested."""

import re
from pathlib import Path

from ser.files import DataError, check_regular, read_json

HEAD = "adaptation.safetensors"  # what pre-training here learned beside the encoder
WEIGHTS = "model.safetensors"
PICKLED = "pytorch_model.bin"
INDICES = {name: f"{name}.index.json" for name in (WEIGHTS, PICKLED)}  # where the weights are in several files
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
OTHERS = ("config.json", PREPROCESSOR, PROCESSOR, "card.json", "heard.txt", HEAD)
# Of what a card has the SHA-256, and under which key.
DIGESTS = {WEIGHTS: "weights_sha256", "config.json": "config_sha256", PREPROCESSOR: "preprocessor_sha256"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{,200}\.(safetensors|bin)")
_VARIANT = re.compile(r"model\.[A-Za-z0-9]+\.safetensors")  # as transformers writes one in half precision
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*")


def is_folder(base: str) -> bool:
    """Whether a `base` is a local folder and no model of the hub; a DataError for a folder that is not there.

    `owner/name` is the hub's, unless a folder `owner` is here: a local name that was mistyped is asked of nobody.
    """
    if Path(base).is_dir():
        return True
    if _HUB_ID.fullmatch(base) and not Path(base).parent.exists():
        return False
    raise DataError(f"encoder {base}: there is no such folder, and it is no id of the hub (OWNER/NAME)")


def check_impersonal(folder: Path) -> None:
    """Raise DataError for a personalised encoder (PAPT), of which a base would be the weights alone."""
    card = read_json(folder / "card.json") if (folder / "card.json").exists() else None
    if isinstance(card, dict) and (position := card.get("position")):
        raise DataError(
            f"{folder}: is a personalised encoder (position: {str(position)[:100]}), and as a base it would lose its "
            "speakers' vectors, which its weights were trained with; take the base of that one, or one without papt"
        )


def list_files(folder: Path) -> list[Path]:
    """The files that are read of a folder, sorted; links are followed, as the hub's cache is made of them."""
    weights, index = find_weights(folder)
    files = [folder / name for name in OTHERS if (folder / name).exists()] + weights + ([index] if index else [])
    for path in files:
        check_regular(path)
    return sorted(files)


def find_weights(folder: Path) -> tuple[list[Path], Path | None]:
    """The files of the weights, plain names inside the folder, and their index where there is one.

    Safetensors come first, then pickled weights, then one in another precision, as transformers has them. Raises
    DataError for weights by other names, for what an index names beside the folder's own files (others take it at its
    word), and for links that lead nowhere.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise DataError(f"{folder}: has no config.json; expected an encoder in Hugging Face format")
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists() and path.suffix in (".json", ".safetensors", ".bin"):
            raise DataError(
                f"{path}: is a broken link: the folder was copied, or moved, without the files that its links lead to. "
                "Copy it with cp -rL, or download it as plain files: hf download OWNER/NAME --local-dir FOLDER"
            )
    for name, index in INDICES.items():
        if (folder / name).exists():
            return [folder / name], None
        if (folder / index).exists():
            return _read_index(folder / index, Path(name).suffix), folder / index
    variants = sorted(path for path in folder.iterdir() if _VARIANT.fullmatch(path.name))
    if len(variants) == 1:
        return variants, None
    others = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
    found = ", ".join(path.name for path in sorted(folder.iterdir()) if path.suffix in others)
    raise DataError(
        f"{folder}: has no {WEIGHTS} and no {PICKLED}{f', only {found}' if found else ''}. If one of them is the "
        "encoder's weights as transformers saves them, give it one of these names; others: load the model with the "
        "library that wrote it, and give what transformers' save_pretrained makes of it"
    )


def _read_index(path: Path, suffix: str) -> list[Path]:
    index = read_json(path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise DataError(f"{path}: has no weight_map; expected the file of each weight")
    for name in places.values():
        fit = isinstance(name, str) and _NAME.fullmatch(name) and name.endswith(suffix)
        if not fit or not (path.parent / name).is_file():
            raise DataError(f"{path}: names {name!r}, which is no {suffix.removeprefix('.')} file of that folder")
    return [path.parent / name for name in sorted(set(places.values()))]
