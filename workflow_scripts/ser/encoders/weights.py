"""The weights of an encoder's folder, read without running code, and fitted to the model that they are for."""

import logging
import re
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedConfig, PreTrainedModel

from ser.files import DataError
from ser.formats.encoder_folder import find_weights

log = logging.getLogger(__name__)

# Before, a file could run code in spite of weights_only (GHSA-53q9-r3pm-6pq6) or corrupt memory (GHSA-63cw-57p8-fm3p).
OLDEST_TORCH = (2, 10)
MOST_PARTS = 20  # that a card names
MASK = "masked_spec_embed"  # the vector of masked frames: only pre-training reads it
# torch's weight norm, by its present names and by those of older checkpoints.
WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def load_model(
    folder: Path, model_class: type[PreTrainedModel], config: PreTrainedConfig
) -> tuple[PreTrainedModel, list[str]]:
    """The model with every weight from the folder's files, in float32 and evaluation mode; and what it left out.

    It is handed the weights themselves: of a folder transformers would read what an index or a config names, and it
    would make up weights that are missing. Raises DataError, naming the folder and the weight, for what is missing, of
    another shape or kind, or not finite.
    """
    with torch.device("meta"):  # shapes alone
        expected = model_class(config).state_dict()
    state = read_weights(folder)
    unused = list_unused(folder, state, expected)
    state = fit_weights(folder, state, expected)
    try:
        model, info = model_class.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: its weights cannot be loaded: {error}") from error
    if missing := set(info["missing_keys"]) - {MASK}:
        raise DataError(f"{folder}: weight {min(missing)} cannot be loaded ({len(missing)} such weights)")
    if MASK in info["missing_keys"]:
        torch.nn.init.uniform_(model.masked_spec_embed.data, generator=torch.Generator().manual_seed(0))
        log.info("%s: has no %s; drew it at random (embeddings do not depend on it)", folder, MASK)
    return model.eval(), unused


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the folder's weights, by the names that their files give them."""
    state: dict[str, torch.Tensor] = {}
    for path in find_weights(folder)[0]:
        state |= _read_pickled(path) if path.suffix == ".bin" else _read_safetensors(path)
    return state


def fit_weights(
    folder: Path, state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The weights that a model has, each a copy of its own in float32, under the model's names; `state` is emptied.

    `expected` are the model's own, of which names, shapes and kinds of numbers are read. No more than these are
    copied: a small file can hold views that stand for terabytes. Raises DataError as `load_model` says.
    """
    prefix, spelled = _find_names(folder, state, expected)
    found = {name: state[spelled[prefix + name]] for name in expected if prefix + name in spelled}
    if unused := list_unused(folder, state, expected):
        log.info("%s: left out what is not of the encoder: %s", folder, ", ".join(unused))
    state.clear()
    wrong = [name for name, tensor in found.items() if tensor.shape != expected[name].shape]
    if wrong:
        shapes = [tuple(tensors[min(wrong)].shape) for tensors in (found, expected)]
        raise DataError(
            f"{folder}: weight {min(wrong)} has shape {shapes[0]}, expected {shapes[1]} by config.json "
            f"({len(wrong)} such weights)"
        )
    if missing := set(expected) - set(found) - {MASK}:
        raise DataError(f"{folder}: weight {min(missing)} is missing ({len(missing)} such weights)")
    fitted = {}
    for name in list(found):
        tensor = found.pop(name)
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise DataError(f"{folder}: weight {name} is {tensor.dtype}, expected {expected[name].dtype}")
        # A copy: files may hold tensors that share their numbers, which safetensors refuses to write.
        fitted[name] = tensor.to(expected[name].dtype, copy=True, memory_format=torch.contiguous_format)
        if not torch.isfinite(fitted[name]).all():
            raise DataError(f"{folder}: weight {name} holds NaN or infinity")
    return fitted


def list_unused(folder: Path, state: Iterable[str], expected: Iterable[str]) -> list[str]:
    """The parts of a checkpoint that a model does not have, each with its number of tensors: `lm_head (2 tensors)`."""
    prefix, spelled = _find_names(folder, state, expected)
    rest = set(state) - {spelled.get(prefix + name) for name in expected}
    parts = sorted(Counter(name.split(".")[0][:60] for name in rest).items())[:MOST_PARTS]
    return [f"{part} ({count} tensor{'s' * (count > 1)})" for part, count in parts]


def _find_names(folder: Path, state: Iterable[str], expected: Iterable[str]) -> tuple[str, dict[str, str]]:
    """What stands before the model's names in a file (`hubert.`), and the file's name of each, in the model's spelling.

    The prefix is the one that the most of the model's weights have: it depends on the model that the file was saved of.
    """
    present = any(name.endswith(tuple(WEIGHT_NORM)) for name in expected)
    spelled = {}
    for name in state:
        for new, old in WEIGHT_NORM.items():
            before, after = (old, new) if present else (new, old)
            if name.endswith(f".{before}"):
                spelled[name.removesuffix(before) + after] = name
        spelled.setdefault(name, name)
    known, counts = set(expected), Counter({"": 0})
    for name in spelled:
        parts = name.split(".")
        counts.update(
            "".join(f"{part}." for part in parts[:i]) for i in range(len(parts)) if ".".join(parts[i:]) in known
        )
    best = [prefix for prefix, count in counts.items() if count == max(counts.values())]
    if len(best) > 1 and "" not in best:
        raise DataError(
            f"{folder}: holds weights of {len(best)} such encoders, under {' and '.join(map(repr, sorted(best)))}; "
            "save the one that is meant with save_pretrained, and give that folder"
        )
    return ("" if "" in best else best[0]), spelled


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be loaded as safetensors ({error})") from error


def _read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pickled file. torch builds those and plain containers of it; what needs more is refused."""
    mend = (
        "Where you trust it, load the model with the library that wrote it, and give the folder that transformers' "
        "save_pretrained makes of it; a hub model often has safetensors under revision: refs/pr/N (see its pull "
        "requests)"
    )
    if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
        raise DataError(f"{path}: pickled weights are opened by torch 2.10 or newer alone, not {torch.__version__}")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                if any(part.compress_type != zipfile.ZIP_STORED for part in file.infolist()):
                    raise ValueError("it is packed, which torch does not do")
        values = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # torch's own message advises to open the file without the limit.
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            why = f"asks for {found[1][:100]}, and what is no tensor can run code: it was not opened"
        else:
            why = "cannot be read as weights: it is damaged, or no file of torch's"
        raise DataError(f"{path}: {why}. {mend}") from None
    except Exception as error:  # bytes of others: any fault of theirs can be any error of the reader's
        reason = str(error).split("\n")[0].split(". ")[0][:200] or type(error).__name__
        raise DataError(f"{path}: cannot be read as weights ({reason}). {mend}") from None
    plain = (torch.Tensor, torch.nn.Parameter)
    if not isinstance(values, dict) or not values:
        raise DataError(f"{path}: holds no weights by name. {mend}")
    for name, tensor in values.items():
        if not isinstance(name, str) or type(tensor) not in plain or tensor.layout != torch.strided or tensor.is_meta:
            raise DataError(f"{path}: {str(name)[:100]!r} is no name of a plain tensor. {mend}")
    return {name: tensor.detach() for name, tensor in values.items()}
