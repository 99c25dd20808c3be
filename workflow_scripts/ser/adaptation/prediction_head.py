"""The prediction head of masked prediction, and the speakers' vectors, as they lie beside an encoder."""

import json
from pathlib import Path

import numpy as np

from ser.files import DataError
from ser.formats.tensors import read_tensors, write_tensors

WEIGHTS = {"codes", "projection.weight", "projection.bias"}


def load_head(model, path: Path, centroids: np.ndarray) -> bool:
    """Take over the prediction head of a base that was pre-trained on these very clusters; whether there was one.

    `model` is a `masked_prediction.MaskedPrediction`.
    """
    if not path.exists():
        return False
    import torch  # 1 s that a job which reads vectors alone saves

    tensors, _ = read_tensors(path)
    if not np.array_equal(tensors["centroids"], centroids):
        return False
    state = {name: torch.from_numpy(tensors[name]) for name in sorted(WEIGHTS & set(tensors))}
    if any(model.get_parameter(name).shape != tensor.shape for name, tensor in state.items()):
        return False
    model.load_state_dict(state, strict=False)
    return True


def save_head(model, centroids: np.ndarray, speakers: list[str], path: Path) -> None:
    """Write the clusters, the prediction head and, with PAPT, the vectors of the speakers in order of their ids."""
    import torch

    state = {name: model.get_parameter(name).detach().float().cpu().numpy() for name in sorted(WEIGHTS)}
    state["centroids"] = centroids
    if speakers:
        with torch.no_grad():
            vectors = model.speaker_vectors(torch.arange(len(speakers), device=model.table.device)[:, None])
        state["speaker_vectors"] = vectors.float().cpu().numpy()
    state = {name: np.ascontiguousarray(array) for name, array in state.items()}
    write_tensors(path, state, {"speakers": json.dumps(speakers)})


def read_vectors(head: str | Path) -> dict[str, np.ndarray]:
    """The vectors, (W,) float32, of the speakers that pre-training heard, from `adaptation.safetensors`."""
    tensors, metadata = read_tensors(head)
    if "speakers" not in metadata or "speaker_vectors" not in tensors:
        raise DataError(f"{head}: holds no vectors of speakers; delete it and run again")
    return dict(zip(json.loads(metadata["speakers"]), tensors["speaker_vectors"], strict=True))
