"""Weights of every kind of folder come out as transformers saved them, and no file of weights runs code."""

import json
import pickle
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from ser.encoders import pretrained
from ser.encoders.preprocessor import read_extractor
from ser.encoders.weights import MASK, WEIGHT_NORM, fit_weights, read_weights
from ser.files import DataError
from ser.formats.encoder_folder import find_weights, list_files

SHAPE = {
    "conv_dim": [4] * 7,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder as transformers saves it."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    HubertModel(HubertConfig(**SHAPE)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture
def base(saved, tmp_path):
    """The same without its weights."""
    shutil.copytree(saved, tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "base"


@pytest.fixture(scope="module")
def state(saved):
    return load_file(saved / "model.safetensors")


def fit(base, state):
    return fit_weights(base, read_weights(base), state)


def assert_equal(got, state):
    assert set(got) == set(state)
    assert all(torch.equal(got[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("zipped", [True, False], ids=["torch 1.6 and later", "before"])
def test_pickled_weights_become_safetensors(base, state, tmp_path, zipped):
    torch.save(state, base / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    pretrained.prepare(str(base), None, tmp_path / "out")
    assert_equal(load_file(tmp_path / "out/model.safetensors"), state)
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before  # the user's folder stays as it is


def test_pickled_weights_in_several_files(base, state):
    names = sorted(state)
    for number, part in enumerate((names[:10], names[10:]), 1):
        torch.save({name: state[name] for name in part}, base / f"pytorch_model-0000{number}-of-00002.bin")
    places = {name: f"pytorch_model-0000{1 if name in names[:10] else 2}-of-00002.bin" for name in names}
    (base / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert_equal(fit(base, state), state)
    assert [path.name for path in list_files(base)] == sorted(path.name for path in base.iterdir())
    (base / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(names, "../x.bin")}))
    with pytest.raises(
        DataError, match=r"pytorch_model.bin.index.json: names '../x.bin', which is no bin file of that"
    ):
        find_weights(base)


class Bomb:
    """Pickled, it makes the file "ran" when it is opened."""

    def __reduce__(self):
        return (open, ("ran", "w"))


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain pickle", "TorchScript", "tar"])
@pytest.mark.parametrize("variable", ["", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_no_code_of_a_file_runs(base, state, tmp_path, monkeypatch, kind, variable):
    monkeypatch.chdir(tmp_path)
    if variable:  # which tells torch to open everything
        monkeypatch.setenv(variable, "1")
    path = base / "pytorch_model.bin"
    if kind in ("zip", "legacy"):
        torch.save(state | {"bomb": Bomb()}, path, _use_new_zipfile_serialization=kind == "zip")
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps(Bomb(), protocol=2))
    elif kind == "TorchScript":
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    else:
        (tmp_path / "storages").write_bytes(pickle.dumps(Bomb(), protocol=2))
        shutil.move(shutil.make_archive("old", "tar", tmp_path, "storages"), path)
    with pytest.raises(
        DataError, match=r"base/pytorch_model.bin: .*\. Where you trust it, .*save_pretrained.*refs/pr/N"
    ):
        read_weights(base)
    assert not (tmp_path / "ran").exists()


def test_the_bomb_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"bomb": Bomb()}, "bomb.bin")
    torch.load("bomb.bin", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_what_a_file_asks_for_is_named_and_torch_s_advice_is_not_passed_on(base, state):
    torch.save(state | {"bomb": Bomb()}, base / "pytorch_model.bin")
    with pytest.raises(DataError, match="asks for io.open, and what is no tensor can run code") as error:
        read_weights(base)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "cannot be read as weights"),
        (b"version https://git-lfs.github.com/spec/v1\n", "cannot be read as weights"),
        ([1, 2], "holds no weights by name"),
        ({}, "holds no weights by name"),
        ({"state_dict": {"a": torch.zeros(2)}, "epoch": 3}, "'state_dict' is no name of a plain tensor"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "'a' is no name of a plain tensor"),
        ({3: torch.zeros(2)}, "'3' is no name of a plain tensor"),
    ],
    ids=str,
)
def test_what_holds_no_weights_is_refused(base, content, match):
    path = base / "pytorch_model.bin"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(DataError, match=f"pytorch_model.bin: {match}"):
        read_weights(base)


def test_a_file_that_is_cut_off_or_packed_is_refused(base, state):
    path = base / "pytorch_model.bin"
    torch.save(state, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        parts = {part.filename: file.read(part) for part in file.infolist()}
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read as weights"):
        read_weights(base)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:  # a small file that is large in memory
        for name, data in parts.items():
            file.writestr(name, data)
    with pytest.raises(DataError, match="it is packed, which torch does not do"):
        read_weights(base)


def test_an_older_torch_is_not_trusted_with_pickles(base, state, monkeypatch):
    torch.save(state, base / "pytorch_model.bin")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(DataError, match="pickled weights are opened by torch 2.10 or newer alone, not 2.9.1"):
        read_weights(base)


def test_tensors_that_share_their_numbers_are_written_apart(base, state, tmp_path):
    """safetensors refuses aliases; a checkpoint of one flat storage is made of nothing else."""
    flat, parts, start = torch.cat([tensor.flatten() for tensor in state.values()]), {}, 0
    for name, tensor in state.items():
        parts[name] = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    norms = [f"encoder.{name}.bias" for name in ("layer_norm", "layers.0.layer_norm")]
    parts[norms[1]] = parts[norms[0]]
    torch.save(parts, base / "pytorch_model.bin")
    pretrained.prepare(str(base), None, tmp_path / "out")
    assert_equal(load_file(tmp_path / "out/model.safetensors"), state | {norms[1]: state[norms[0]]})


def test_a_view_that_stands_for_terabytes_is_never_made(base, state):
    name = "encoder.layer_norm.bias"
    torch.save(
        state | {name: torch.zeros(1).expand(10**12), "other": torch.zeros(1).expand(10**13)},
        base / "pytorch_model.bin",
    )
    with pytest.raises(DataError, match=rf"weight {name} has shape \(1000000000000,\), expected \(8,\)"):
        fit(base, state)


@pytest.mark.parametrize("prefix", ["wav2vec2.", "hubert.", "wavlm.", "model.", "module.model.encoder."])
@pytest.mark.parametrize("spelling", ["present", "older"])
def test_names_of_other_models_and_of_older_weight_norms(base, state, prefix, spelling, caplog):
    """Mismatched, they would load as random numbers."""
    renamed = {prefix + name: tensor for name, tensor in state.items()}
    if spelling == "older":
        for new, old in WEIGHT_NORM.items():
            renamed = {name.replace(new, old): tensor for name, tensor in renamed.items()}
        assert len(set(renamed) - {prefix + name for name in state}) == 2
    save_file(renamed | {"classifier.weight": torch.zeros(3)}, base / "model.safetensors")
    caplog.set_level("INFO")
    assert_equal(fit(base, state), state)
    assert "left out what is not of the encoder: classifier (1 tensor)" in caplog.text


def test_the_other_spelling_is_found_too(base, state):
    """A model that has weight norm under the older names."""
    older = {name.replace("parametrizations.weight.original0", "weight_g"): tensor for name, tensor in state.items()}
    older = {name.replace("parametrizations.weight.original1", "weight_v"): tensor for name, tensor in older.items()}
    save_file(state, base / "model.safetensors")
    assert_equal(fit_weights(base, read_weights(base), older), older)


def test_two_encoders_in_one_file_are_refused(base, state):
    both = {prefix + name: tensor.clone() for prefix in ("student.", "teacher.") for name, tensor in state.items()}
    save_file(both, base / "model.safetensors")
    with pytest.raises(DataError, match="holds weights of 2 such encoders, under 'student.' and 'teacher.'; save the"):
        fit(base, state)


def test_any_weight_that_is_missing_is_named(base, state):
    for name in set(state) - {MASK}:
        with pytest.raises(DataError, match=rf"base: weight {name} is missing \(1 such weights\)"):
            fit_weights(base, {other: tensor for other, tensor in state.items() if other != name}, state)
    assert MASK not in fit_weights(base, {name: state[name] for name in state if name != MASK}, state)


def test_weights_in_whole_numbers_are_refused(base, state):
    name = "encoder.layer_norm.bias"
    with pytest.raises(DataError, match=f"weight {name} is torch.int8, expected torch.float32"):
        fit_weights(base, state | {name: torch.zeros(8, dtype=torch.int8)}, state)


def test_weights_in_half_precision_alone_are_read(base, state):
    save_file({name: tensor.half() for name, tensor in state.items()}, base / "model.fp16.safetensors")
    assert_equal(fit(base, state), {name: tensor.half().float() for name, tensor in state.items()})
    torch.save(state, base / "pytorch_model.bin")
    assert_equal(fit(base, state), state)  # in full precision where it is there
    (base / "pytorch_model.bin").rename(base / "weights.bin")
    save_file(state, base / "model.bf16.safetensors")
    with pytest.raises(DataError, match="only model.bf16.safetensors, model.fp16.safetensors, weights.bin. If one of"):
        find_weights(base)


def test_a_downloaded_folder_that_was_copied_with_its_links_says_so(base, state, tmp_path):
    """The hub's cache is made of links to ../../blobs."""
    (tmp_path / "blobs").mkdir()
    save_file(state, tmp_path / "blobs/aa")
    (tmp_path / "snapshots/commit").mkdir(parents=True)
    (tmp_path / "snapshots/commit/model.safetensors").symlink_to("../../blobs/aa")
    shutil.copy(base / "config.json", tmp_path / "snapshots/commit")
    assert len(list_files(tmp_path / "snapshots/commit")) == 2
    shutil.copytree(tmp_path / "snapshots/commit", tmp_path / "copy", symlinks=True)
    with pytest.raises(
        DataError, match=r"copy/model.safetensors: is a broken link: .*hf download OWNER/NAME --local-dir"
    ):
        list_files(tmp_path / "copy")
    (tmp_path / "copy/model.safetensors").unlink()
    save_file(state, tmp_path / "copy/model.safetensors")
    (tmp_path / "copy/preprocessor_config.json").symlink_to("../../blobs/bb")
    with pytest.raises(DataError, match="copy/preprocessor_config.json: is a broken link"):
        list_files(tmp_path / "copy")


def test_of_the_hub_pickled_weights_are_asked_for_where_there_are_no_others(base, state, tmp_path, monkeypatch):
    commit, asked = "0" * 40, []
    snapshot = base.rename(tmp_path / commit)

    def download(repository, revision, allow_patterns):
        asked.append(allow_patterns)
        if "pytorch_model*.bin" in allow_patterns:
            assert revision == commit
            torch.save(state, snapshot / "pytorch_model.bin")
        return str(snapshot)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "snapshot_download", download)
    folder, _ = pretrained.fetch("someone/hubert", None)
    assert_equal(fit(folder, state), state)
    assert len(asked) == 2 and "processor_config.json" in asked[0]
    save_file(state, snapshot / "model.safetensors")
    pretrained.fetch("someone/hubert", None)
    assert len(asked) == 3


NESTED = {"feature_extractor": {"do_normalize": False, "sampling_rate": 16000, "feature_size": 1}}


@pytest.mark.parametrize(
    ("processor", "preprocessor", "normalises"),
    [
        (NESTED, None, False),
        (NESTED, {"do_normalize": True}, False),  # as in transformers: the nested settings come first
        ({"processor_class": "Wav2Vec2Processor"}, {"do_normalize": False}, False),  # what older versions write
        ({"audio_processor": NESTED["feature_extractor"]}, None, False),
        (None, {"do_normalize": False}, False),
        (None, {"do_normalize": True}, True),
        ({"processor_class": "Wav2Vec2Processor"}, None, True),
    ],
)
def test_a_processor_s_file_says_what_the_input_must_be_like(base, processor, preprocessor, normalises):
    for name, values in {"processor_config.json": processor, "preprocessor_config.json": preprocessor}.items():
        (base / name).unlink(missing_ok=True)
        if values is not None:
            (base / name).write_text(json.dumps(values))
    assert read_extractor(base).do_normalize is normalises
    if processor and set(processor) & {"feature_extractor"} or preprocessor:
        assert Wav2Vec2FeatureExtractor.from_pretrained(base).do_normalize is normalises


@pytest.mark.parametrize(
    ("processor", "match"),
    [
        (
            {"feature_extractor": {"sampling_rate": 8000}},
            "processor_config.json: sampling_rate is 8000, expected 16000",
        ),
        (
            {"feature_extractor": {"do_normalize": 1}},
            "processor_config.json: do_normalize is 1, expected true or false",
        ),
        ({"feature_extractor": [1]}, "processor_config.json: feature_extractor is no configuration"),
        ([1], "processor_config.json: is no configuration"),
    ],
)
def test_a_processor_s_file_that_cannot_be_used_is_named(base, processor, match):
    (base / "processor_config.json").write_text(json.dumps(processor))
    with pytest.raises(DataError, match=f"/{match}"):
        read_extractor(base)
