"""The files of an encoder's folder in Hugging Face format: which are read, so that those and no others are digested."""

import re
from pathlib import Path

from ser.files import DataError, check_regular, read_json

HEAD = "adaptation.safetensors"  # what pre-training here learned beside the encoder
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # where the weights are in several files
OTHERS = ("config.json", "preprocessor_config.json", "card.json", "heard.txt", HEAD)
# Of what a card has the SHA-256, and under which key.
DIGESTS = {WEIGHTS: "weights_sha256", "config.json": "config_sha256", "preprocessor_config.json": "preprocessor_sha256"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{,200}\.safetensors")
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


def list_files(folder: Path) -> list[Path]:
    """The files that are read of a folder, sorted; links are followed, as the hub's cache is made of them."""
    weights = list_weights(folder)
    files = sorted([folder / name for name in OTHERS if (folder / name).exists()] + weights)
    if len(weights) > 1 or not (folder / WEIGHTS).exists():
        files.append(folder / INDEX)
    for path in files:
        check_regular(path)
    return sorted(files)


def list_weights(folder: Path) -> list[Path]:
    """The safetensors files of the weights, plain names inside the folder; a DataError for any other kind of weights.

    What an index names is taken at its word by others, a pickled file too.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise DataError(f"{folder}: has no config.json; expected a HuBERT in Hugging Face format")
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    path = folder / INDEX
    if not path.exists():
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.ckpt") for path in folder.glob(pattern))
        raise DataError(
            f"{folder}: has no model.safetensors{f', only pickled weights ({pickled[0]})' if pickled else ''}. Pickled "
            "weights can run code and are not opened: name a revision that has safetensors (on the hub often refs/pr/N,"
            " see the model's pull requests), or convert them with save_pretrained and give the local folder"
        )
    index = read_json(path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise DataError(f"{path}: has no weight_map; expected the file of each weight")
    for name in places.values():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or not (folder / name).is_file():
            raise DataError(f"{path}: names {name!r}, which is no safetensors file of that folder")
    return [folder / name for name in sorted(set(places.values()))]
