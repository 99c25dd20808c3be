"""Models for speaker verification, checked and brought into one form that the rest of the workflow can trust."""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from ser.encoders import past, pretrained
from ser.encoders.weights import fit_weights, read_weights
from ser.files import DataError, atomic, read_json, sha256
from ser.formats.encoder_families import FAMILIES, read_family
from ser.speakers.xvector import DIGEST, HEAD

LISTS = ("tdnn_dim", "tdnn_kernel", "tdnn_dilation")
LARGEST = 16_384  # of any size
MOST_LAYERS = 32


def prepare_model(base: str, revision: str | None, out_dir: str | Path) -> None:
    """Write a speaker model (a hub id, at `revision`, or a local folder) in the workflow's form.

    That is the encoder's files, as `pretrained.prepare` writes them, and `xvector.safetensors` with what comes after
    it. Raises DataError as that does, and for a model without such a head.
    """
    folder, commit = pretrained.fetch(base, revision)
    shape = read_shape(folder)
    model, extractor = pretrained.load(folder)
    state = read_weights(folder)
    if "projector.weight" not in state:
        raise DataError(
            f"{folder}: has no speaker model's head (projector.weight): it is an encoder, or of another task"
        )
    with torch.device("meta"):
        expected = build_head(shape, model.config.hidden_size, model.config.num_hidden_layers + 1).state_dict()
    head, out_dir = fit_weights(folder, state, expected), Path(out_dir)
    with atomic(out_dir / HEAD) as temporary:
        save_file(head, temporary, metadata={"format": "pt"})
    pretrained.save(
        model,
        extractor,
        out_dir,
        past.read_past(folder, base),
        base=base,
        revision=revision,
        commit=commit,
        weights="pretrained",
        xvector=shape,
        averaging="the mean over a speaker's utterances of their vectors as they are, none scaled to length 1",
        **{DIGEST: sha256(out_dir / HEAD)},
    )


def read_shape(folder: Path) -> dict:
    """What a configuration says of the head; a DataError names a key that no such head can have."""
    path = folder / "config.json"
    kind = read_family(folder)
    known = getattr(transformers, f"{FAMILIES[kind]}Config")().to_dict() if kind in FAMILIES else {}
    if "tdnn_dim" not in known:
        raise DataError(f"{path}: model_type {kind} has no speaker models that the workflow's engine runs")
    values = read_json(path)
    shape = {key: values.get(key, known[key]) for key in (*LISTS, "xvector_output_dim", "use_weighted_layer_sum")}
    lists = [shape[key] for key in LISTS]
    sizes = [shape["xvector_output_dim"], *(size for each in lists if isinstance(each, list | tuple) for size in each)]
    fit = all(isinstance(each, list | tuple) and 1 <= len(each) <= MOST_LAYERS for each in lists)
    fit = fit and len(set(map(len, lists))) == 1 and isinstance(shape["use_weighted_layer_sum"], bool)
    if not fit or not all(type(size) is int and 1 <= size <= LARGEST for size in sizes):
        raise DataError(f"{path}: {', '.join(LISTS)} and xvector_output_dim are no sizes of a speaker model's head")
    return shape | {key: list(shape[key]) for key in LISTS}


def build_head(shape: dict, width: int, layers: int) -> torch.nn.Module:
    """The head's parameters, under transformers' names."""
    dims = shape["tdnn_dim"]
    head = torch.nn.Module()
    if shape["use_weighted_layer_sum"]:
        head.layer_weights = torch.nn.Parameter(torch.empty(layers))
    head.projector = torch.nn.Linear(width, dims[0])
    head.tdnn = torch.nn.ModuleList()
    for before, after, kernel in zip([dims[0], *dims], dims, shape["tdnn_kernel"], strict=False):
        layer = torch.nn.Module()
        layer.kernel = torch.nn.Linear(before * kernel, after)
        head.tdnn.append(layer)
    head.feature_extractor = torch.nn.Linear(2 * dims[-1], shape["xvector_output_dim"])
    return head
