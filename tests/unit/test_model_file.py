"""A head's file of others: Keras is handed no more than such a file holds."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from ser.config.ablation import Ablation
from ser.files import DataError
from ser.heads.model import build_head
from ser.heads.prediction import load_heads
from ser.heads.saving import save_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    settings = Ablation("e", layer=-1, units=[4], training={"dropout": 0.1})
    save_model(path, build_head(settings, n_layers=3, width=6, label_mean=[4.0], label_sd=[1.0]))
    return path


def rewrite(source, path, change, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def widen(parts):
    text = json.dumps(json.loads(parts["config.json"])).replace('"units": 4', '"units": 1000000000')
    assert "1000000000" in text
    parts["config.json"] = text.encode()


def pack_weights(parts):
    file = (
        h5py.File.in_memory()
        if hasattr(h5py.File, "in_memory")
        else h5py.File("x", "w", driver="core", backing_store=False)
    )
    file.create_dataset("x", data=np.zeros(10**6), compression="gzip")
    file.flush()
    parts["model.weights.h5"] = bytes(file.id.get_file_image())


CHANGES = {
    "a layer of 10⁹": (widen, zipfile.ZIP_STORED, "its config has a size of 1e.09"),
    "packed": (lambda parts: None, zipfile.ZIP_DEFLATED, "its parts are packed"),
    "zeros, packed": (
        lambda parts: parts.update({"model.weights.h5": bytes(10**7)}),
        zipfile.ZIP_DEFLATED,
        "are packed",
    ),
    "a packed array": (pack_weights, zipfile.ZIP_STORED, "its array x is packed, or elsewhere"),
    "another part": (lambda parts: parts.update({"assets/x.py": b""}), zipfile.ZIP_STORED, "it has other parts than"),
    "no config": (lambda parts: parts.pop("config.json"), zipfile.ZIP_STORED, "it has other parts than"),
}


@pytest.mark.parametrize(("change", "compression", "message"), CHANGES.values(), ids=CHANGES)
def test_a_model_that_would_take_more_memory_than_its_size_is_refused(saved, tmp_path, change, compression, message):
    load_heads({1: str(saved)})
    path = tmp_path / "model.keras"
    rewrite(saved, path, change, compression)
    with pytest.raises(DataError, match=f"model.keras: is not a model that can be loaded .*{message}"):
        load_heads({1: str(path)})
