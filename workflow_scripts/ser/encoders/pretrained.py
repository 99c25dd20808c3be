"""Encoders in Hugging Face format, checked and brought into one form that the rest of the workflow can trust.

An encoder's folder holds `config.json`, `preprocessor_config.json`, `model.safetensors`, `card.json`, which says what
the weights came from, and `heard.txt`, the audio that they learned from (`past`). Nothing but configuration and tensors
is read: no code runs.
"""

import contextlib
import logging
import re
from pathlib import Path
from urllib.parse import quote

import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import save_file
from transformers import PreTrainedModel, SequenceFeatureExtractor, Wav2Vec2FeatureExtractor

from ser.audio.frames import FRAMES_A_SECOND
from ser.encoders import past
from ser.encoders.encoder_config import describe_masking, read_config
from ser.encoders.plain import describe_plain, load_plain, read_plain_config
from ser.encoders.preprocessor import read_extractor
from ser.encoders.weights import load_model
from ser.files import DataError, atomic, name_path, read_json, sha256, write_json, write_text
from ser.formats.encoder_families import FAMILIES, check_trainable, is_grouped, is_pre_norm, read_family
from ser.formats.encoder_folder import (
    DIGESTS,
    INDICES,
    OTHERS,
    PICKLED,
    WEIGHTS,
    check_impersonal,
    is_folder,
    list_files,
)

log = logging.getLogger(__name__)

FILES = [*OTHERS, "model*.safetensors", INDICES[WEIGHTS]]  # that are asked of the hub
PICKLED_FILES = ["pytorch_model*.bin", INDICES[PICKLED]]  # and these, where it has no such weights
COMMITS = Path("results/.commits")
ADAPTATIONS = ("none", "tapt", "papt")


def prepare(base: str, revision: str | None, out_dir: str | Path) -> None:
    """Write the encoder `base` (a hub id, at `revision`, or a local folder) into `out_dir` in the workflow's form.

    Pickled weights are read as data alone, and become safetensors here. Raises DataError, naming the folder and key,
    for what is personalised, is of no family, has no or incomplete weights, needs code to be opened, or expects another
    sampling rate.
    """
    folder, commit = fetch(base, revision)
    check_impersonal(folder)
    model, extractor, unused = _load(folder)
    origin = read_origin(folder)
    if model.config.model_type not in FAMILIES:
        log.info("%s: goes the plain way, through transformers' %s", folder, type(model).__name__)
    save(
        model,
        extractor,
        out_dir,
        past.read_past(folder, base),
        base=base,
        revision=revision,
        commit=commit,
        weights="random-init" if (origin or {}).get("weights") == "random-init" else "pretrained",
        adaptation=(origin or {}).get("adaptation", "none"),
        trained_on=past.tell_labels(origin),
        not_used=unused,
        masking=describe_masking(folder),
        layerdrop=0,
        origin=origin,
    )


def read_origin(folder: Path) -> dict | None:
    """The card of the encoder in a folder, which goes into the cards of those that are made of it; None without one.

    Raises DataError for what no card of this workflow says.
    """
    path = folder / "card.json"
    if not path.exists():
        return None
    card = read_json(path)
    if not isinstance(card, dict):
        raise DataError(f"{path}: is no card of an encoder; expected keys and values")
    if card.get("adaptation", "none") not in ADAPTATIONS:
        found = str(card["adaptation"])[:100]
        raise DataError(f"{path}: adaptation is {found!r}, expected one of {', '.join(ADAPTATIONS)}")
    return card


def save(
    model: PreTrainedModel, extractor: SequenceFeatureExtractor, out_dir: str | Path, heard: past.Past, **facts
) -> None:
    """Write an encoder's files, the same bytes for the same model; `facts` open the card, which is written last."""
    out_dir = Path(out_dir)
    config, shape = model.config, _describe(model, extractor)
    heard.write(out_dir)
    config.architectures, config.dtype = [type(model).__name__], "float32"
    write_text(out_dir / "config.json", config.to_json_string())
    write_text(out_dir / "preprocessor_config.json", extractor.to_json_string())
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # Whole numbers stay such: the steps that a batch norm has counted.
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    with atomic(out_dir / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    write_json(
        out_dir / "card.json",
        facts
        | {
            **({"base": name_path(facts["base"])} if "base" in facts else {}),
            "heard": list(heard.told),
            **{key: sha256(out_dir / name) for name, key in DIGESTS.items()},
            "parameters": sum(tensor.numel() for tensor in state.values()),
            "family": config.model_type,
            **shape,
            "transformers": transformers.__version__,
        },
    )


def load(folder: Path) -> tuple[PreTrainedModel, Wav2Vec2FeatureExtractor]:
    """The model of a local folder, to be trained further, and what its input must be like; errors as in `prepare`."""
    check_trainable(folder, str(folder))
    model, extractor, _ = _load(folder)
    return model, extractor


def _load(folder: Path) -> tuple[PreTrainedModel, SequenceFeatureExtractor, list[str]]:
    """The model of a local folder, its feature extractor, and the parts of the checkpoint that are not of it."""
    list_files(folder)
    if read_family(folder) not in FAMILIES:
        return load_plain(folder, read_plain_config(folder))
    config = read_config(folder)
    extractor = read_extractor(folder)
    model, unused = load_model(folder, getattr(transformers, f"{FAMILIES[config.model_type]}Model"), config)
    return model, extractor, unused


def _describe(model: PreTrainedModel, extractor: SequenceFeatureExtractor) -> dict:
    """What a card says of a model's shape, and of the way that it goes."""
    config = model.config
    if config.model_type not in FAMILIES:
        return {"way": "plain"} | describe_plain(model, extractor)
    shape = config.to_dict()
    return {
        "way": "engine",
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "frame_rate": FRAMES_A_SECOND,
        "architecture": f"{'group' if is_grouped(shape) else 'layer'} norm, "
        f"{'pre' if is_pre_norm(shape) else 'post'}-layer-norm Transformer",
    }


def fetch(base: str, revision: str | None) -> tuple[Path, str | None]:
    """A local folder with the encoder's files, and the commit where it comes from the hub.

    A branch or a tag is resolved to a commit once, which is kept in the results: what it leads to later is another.
    """
    if is_folder(base):
        if revision is not None:
            raise DataError(f"encoder {base}: is a local folder, so its revision must be null, not {revision!r}")
        return Path(base), None
    kept = COMMITS / quote(f"{base}@{revision or 'main'}", safe="")
    if kept.is_file():
        revision = _read_commit(kept)
    try:
        folder = Path(snapshot_download(base, revision=revision, allow_patterns=FILES))
        if not any((folder / name).exists() for name in (WEIGHTS, INDICES[WEIGHTS])):
            snapshot_download(base, revision=folder.name, allow_patterns=PICKLED_FILES)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise DataError(
            f"encoder {base}: is no local folder, and the Hugging Face hub does not give it{at}: {error}"
        ) from error
    if not kept.is_file():
        COMMITS.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), open(kept, "x", encoding="utf-8") as file:
            file.write(folder.name)
        if _read_commit(kept) != folder.name:  # a job beside this one was first
            return fetch(base, revision)
    return folder, folder.name


def _read_commit(path: Path) -> str:
    """The commit that a name of the hub stood for when it was first used: all jobs of a study use one encoder."""
    commit = path.read_text(encoding="utf-8")
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise DataError(f"{path}: is no commit of the hub; delete it and run again")
    return commit
