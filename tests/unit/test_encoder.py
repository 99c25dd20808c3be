"""Encoders are brought into one form, or refused with the folder and the key that is wrong."""

import json
import os
import shutil

import pytest
import torch
from made_encoder import edit, make, outputs, refuse
from safetensors.torch import load_file, save_file
from transformers import HubertForCTC, HubertModel

from ser.adaptation import adapt
from ser.encoders import pretrained
from ser.encoders.engine import Encoder
from ser.encoders.past import tell_labels
from ser.files import DataError, read_json
from ser.formats import encoder_checks
from ser.formats.encoder_folder import list_files

FILES = ["card.json", "config.json", "heard.txt", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture
def base(tmp_path):
    make(tmp_path / "base")
    return tmp_path / "base"


def test_the_prepared_encoder_computes_the_same(base, tmp_path):
    pretrained.prepare(str(base), None, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    expected, got = (outputs(HubertModel.from_pretrained(folder)) for folder in (base, tmp_path / "out"))
    assert torch.equal(expected, got)
    card = read_json(tmp_path / "out/card.json")
    assert card["base"] == ".../base" and card["revision"] is None and card["commit"] is None
    assert card["weights"] == "pretrained" and card["adaptation"] == "none"
    assert (card["layers"], card["width"]) == (2, 32)
    assert card["architecture"] == "group norm, post-layer-norm Transformer"
    assert card["parameters"] == sum(p.numel() for p in HubertModel.from_pretrained(base).parameters())


def test_a_prepared_encoder_with_a_batch_norm_can_be_trained_further(tmp_path):
    model = make(tmp_path / "base", conv_pos_batch_norm=True)
    pretrained.prepare(str(tmp_path / "base"), None, tmp_path / "out")
    assert torch.equal(outputs(pretrained.load(tmp_path / "out")[0]), outputs(model))


def test_two_runs_write_the_same_bytes(base, tmp_path):
    state = load_file(base / "model.safetensors")
    state.pop("masked_spec_embed")  # transformers draws it at random, each time another
    save_file(state, base / "model.safetensors", {"format": "pt"})
    for out in "one", "two":
        pretrained.prepare(str(base), None, tmp_path / out)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    pretrained.prepare(str(tmp_path / "one"), None, tmp_path / "three")  # and preparing a prepared one changes nothing
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "three/model.safetensors").read_bytes()


@pytest.mark.parametrize("model_class", [HubertModel, HubertForCTC])
def test_weight_norm_under_the_hub_s_names_is_loaded(tmp_path, model_class):
    """Checkpoints on the hub are older than torch's parametrisations."""
    base = tmp_path / "base"
    model = make(base, model_class)
    state = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in load_file(base / "model.safetensors").items()
    }
    assert len([name for name in state if name.endswith(("pos_conv_embed.conv.weight_g", "conv.weight_v"))]) == 2
    save_file(state, base / "model.safetensors", {"format": "pt"})
    pretrained.prepare(str(base), None, tmp_path / "out")
    expected = outputs(model if model_class is HubertModel else model.hubert)
    assert torch.equal(outputs(HubertModel.from_pretrained(tmp_path / "out")), expected)
    pretrained.prepare(str(tmp_path / "out"), None, tmp_path / "again")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "again/model.safetensors").read_bytes()


def test_a_fine_tuned_model_s_head_is_left_out(tmp_path):
    model = make(tmp_path / "base", HubertForCTC)
    pretrained.prepare(str(tmp_path / "base"), None, tmp_path / "out")
    assert torch.equal(outputs(HubertModel.from_pretrained(tmp_path / "out")), outputs(model.hubert))
    assert not [name for name in load_file(tmp_path / "out/model.safetensors") if "lm_head" in name]


def test_half_precision_and_several_files_are_brought_together(base, tmp_path):
    model = HubertModel.from_pretrained(base)
    model.half().save_pretrained(tmp_path / "parts", max_shard_size="50KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    pretrained.prepare(str(tmp_path / "parts"), None, tmp_path / "out")
    got = load_file(tmp_path / "out/model.safetensors")
    assert {value.dtype for value in got.values()} == {torch.float32}
    for name, value in model.float().state_dict().items():
        assert torch.equal(got[name], value)


def test_random_initialisation_stays_on_the_card(base, tmp_path):
    (base / "card.json").write_text('{"weights": "random-init"}')
    pretrained.prepare(str(base), None, tmp_path / "out")
    card = read_json(tmp_path / "out/card.json")
    assert (card["weights"], card["heard"], card["origin"]) == ("random-init", [], {"weights": "random-init"})


def test_the_card_says_whether_the_past_is_known(base, tmp_path):
    pretrained.prepare(str(base), None, tmp_path / "out")
    card = read_json(tmp_path / "out/card.json")
    assert (card["heard"], card["origin"]) == ([".../base: unknown"], None)
    assert (tmp_path / "out/heard.txt").read_text() == ""


def test_labels_that_a_base_has_seen_stay_on_the_card(base, tmp_path):
    """Of an encoder that was fine-tuned here, of what is made of it, and of one that is fine-tuned again."""
    own = {"split": "train", "labels": ["valence", "arousal"], "utterances": 12, "hours": 0.1}
    edit(base / "card.json", trained_on=own)
    pretrained.prepare(str(base), None, tmp_path / "out")
    told = "valence, arousal of 12 utterances (train)"
    assert read_json(tmp_path / "out/card.json")["trained_on"] == told
    pretrained.prepare(str(tmp_path / "out"), None, tmp_path / "again")
    card = read_json(tmp_path / "again/card.json")
    assert card["trained_on"] == told
    assert tell_labels({"trained_on": own | {"labels": ["dominance"]}, "origin": card}) == (
        f"{told}; dominance of 12 utterances (train)"
    )
    assert tell_labels(None) is tell_labels([]) is tell_labels({"trained_on": {}}) is None
    assert tell_labels({"trained_on": {"labels": 3}, "origin": 3}) == "{'labels': 3}"  # a stranger's


def test_a_personalised_encoder_is_no_base_as_its_speakers_vectors_would_be_lost(base, tmp_path):
    edit(base / "card.json", adaptation="papt", position=None)
    pretrained.prepare(str(base), None, tmp_path / "fine")
    edit(base / "card.json", position="first")
    match = "is a personalised encoder .position: first., and as a base it would lose its speakers' vectors"
    refuse(base, tmp_path, match)
    with pytest.raises(DataError, match=match):  # TAPT or PAPT of it
        adapt._adapt(
            adapt.Sources(str(base), None, {}, "", []),
            adapt.Recipe({}, {"threads": 1, "precision": "float32"}, {}, ""),
            adapt.Places(tmp_path / "out", tmp_path / "checkpoint", tmp_path / "tensorboard"),
            "cpu",
        )
    with pytest.raises(DataError, match=f"config: encoders.e.base: .*{match}"):
        encoder_checks.check_base("e", {"base": str(base), "revision": None})


def test_no_preprocessor_means_hubert_s_own_and_is_logged(base, tmp_path, caplog):
    (base / "preprocessor_config.json").unlink()
    pretrained.prepare(str(base), None, tmp_path / "out")
    values = read_json(tmp_path / "out/preprocessor_config.json")
    assert values["do_normalize"] is True and values["sampling_rate"] == 16000
    assert "has no preprocessor_config.json" in caplog.text


def test_an_extractor_that_does_not_normalise_is_kept(base, tmp_path):
    edit(base / "preprocessor_config.json", do_normalize=False)
    pretrained.prepare(str(base), None, tmp_path / "out")
    assert read_json(tmp_path / "out/preprocessor_config.json")["do_normalize"] is False


def test_code_of_the_model_s_own_is_not_run(base, tmp_path):
    ran = tmp_path / "ran"
    (base / "modeling.py").write_text(f"open({str(ran)!r}, 'w')\nclass Model: pass\n")
    edit(base / "config.json", auto_map={"AutoModel": "modeling.Model", "AutoConfig": "modeling.Model"})
    pretrained.prepare(str(base), None, tmp_path / "out")
    assert not ran.exists() and "auto_map" not in read_json(tmp_path / "out/config.json")


class Bomb:
    """Pickled, it makes the file "ran" when it is opened."""

    def __reduce__(self):
        return (open, ("ran", "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "../outside.safetensors", "sub/model.safetensors", 3, None])
def test_an_index_names_safetensors_of_its_folder_and_nothing_else(base, tmp_path, monkeypatch, name):
    """Transformers opens what an index names; an empty safetensors file beside it hid a pickle."""
    monkeypatch.chdir(tmp_path)
    weights = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    save_file({}, base / "model-00001-of-00001.safetensors")
    save_file(weights, tmp_path / "outside.safetensors", {"format": "pt"})
    (base / "sub").mkdir()
    save_file(weights, base / "sub/model.safetensors", {"format": "pt"})
    torch.save(weights | {"bomb": Bomb()}, base / "pytorch_model.bin")
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(weights, name)}))
    refuse(base, tmp_path, "model.safetensors.index.json: names .*, which is no safetensors file of that folder")
    with pytest.raises(DataError, match="which is no safetensors file"):
        list_files(base)
    assert not (tmp_path / "ran").exists()


def test_every_file_that_is_read_is_listed(base, tmp_path):
    HubertModel.from_pretrained(base).save_pretrained(tmp_path / "parts", max_shard_size="50KB")
    (tmp_path / "parts/notes.json").write_text("{}")
    names = {path.name for path in (tmp_path / "parts").iterdir()} - {"notes.json"}
    assert {path.name for path in list_files(tmp_path / "parts")} == names
    assert [path.name for path in list_files(base)] == ["config.json", "model.safetensors", "preprocessor_config.json"]


def test_a_pipe_in_a_folder_is_refused(base, tmp_path):
    (base / "config.json").unlink()
    os.mkfifo(base / "config.json")
    refuse(base, tmp_path, "config.json: is a folder, a device or a pipe; expected a file")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_prepared_encoder_that_was_changed_is_refused(base, tmp_path, name):
    pretrained.prepare(str(base), None, tmp_path / "out")
    content = (tmp_path / "out" / name).read_bytes()
    (tmp_path / "out" / name).write_bytes(content.replace(b"1e-05", b"1e-04").replace(b"true", b"null") + b" ")
    with pytest.raises(DataError, match=rf"{name}: is damaged or was edited"):
        Encoder(tmp_path / "out", "cpu")


@pytest.mark.parametrize("base", ["demo/encodr", "encodr", "/no/such", "../x/y", "a/b/c", "~/encoder", "C:\\encoder"])
def test_a_mistyped_folder_is_asked_of_nobody(tmp_path, monkeypatch, base):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    monkeypatch.setattr(pretrained, "snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(DataError, match="there is no such folder, and it is no id of the hub"):
        pretrained.prepare(base, None, tmp_path / "out")


def test_no_weights_are_refused(base, tmp_path):
    (base / "model.safetensors").unlink()
    refuse(base, tmp_path, "base: has no model.safetensors and no pytorch_model.bin. ")


def test_missing_weights_are_not_made_up(base, tmp_path):
    state = load_file(base / "model.safetensors")
    del state["encoder.layers.1.attention.k_proj.weight"], state["feature_projection.projection.bias"]
    save_file(state, base / "model.safetensors", {"format": "pt"})
    refuse(base, tmp_path, r"base: weight encoder.layers.1.attention.k_proj.weight is missing \(2 such weights\)")


def test_weights_that_are_not_finite_are_refused(base, tmp_path):
    state = load_file(base / "model.safetensors")
    state["encoder.layer_norm.bias"][3] = float("nan")
    save_file(state, base / "model.safetensors", {"format": "pt"})
    refuse(base, tmp_path, "weight encoder.layer_norm.bias holds NaN or infinity")


def test_truncated_weights_are_refused(base, tmp_path):
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(content[: len(content) // 2])
    refuse(base, tmp_path, "base.model.safetensors: cannot be loaded as safetensors")


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "base").mkdir()
    refuse(tmp_path / "base", tmp_path, "base: has no config.json")


def test_a_revision_of_a_folder_is_refused(base, tmp_path):
    with pytest.raises(DataError, match="is a local folder, so its revision must be null, not 'main'"):
        pretrained.prepare(str(base), "main", tmp_path / "out")


def test_a_name_that_is_neither_folder_nor_on_the_hub_is_refused(tmp_path):
    with pytest.raises(DataError, match="encoder ./no/such/folder: there is no such folder"):
        pretrained.prepare("./no/such/folder", None, tmp_path / "out")


def test_from_the_hub_the_commit_is_on_the_card(base, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = base.rename(tmp_path / commit)
    asked = {}

    def download(repository, **options):
        asked.update(options, repository=repository)
        return str(snapshot)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pretrained, "snapshot_download", download)
    pretrained.prepare("someone/hubert", "refs/pr/1", tmp_path / "out")
    card = read_json(tmp_path / "out/card.json")
    assert (card["base"], card["revision"], card["commit"]) == ("someone/hubert", "refs/pr/1", commit)
    assert asked["repository"] == "someone/hubert" and asked["revision"] == "refs/pr/1"
    assert not [pattern for pattern in asked["allow_patterns"] if pattern.endswith((".bin", ".py", "*"))]


def test_a_branch_is_resolved_once(base, tmp_path, monkeypatch):
    """All jobs of a study use the commit that the first one found, though the branch moves on."""
    monkeypatch.chdir(tmp_path)
    commits, asked = ["1" * 40, "2" * 40], []
    shutil.copytree(base, tmp_path / commits[0])
    shutil.copytree(base, tmp_path / commits[1])

    def download(repository, revision, **_):
        asked.append(revision)
        return str(tmp_path / (revision if revision in commits else commits[min(len(asked), 2) - 1]))

    monkeypatch.setattr(pretrained, "snapshot_download", download)
    assert [pretrained.fetch("someone/hubert", None)[1] for _ in range(3)] == [commits[0]] * 3
    assert asked == [None, commits[0], commits[0]]
    (kept,) = pretrained.COMMITS.iterdir()
    kept.write_text("main")
    with pytest.raises(DataError, match="someone%2Fhubert@main: is no commit of the hub|is no commit of the hub"):
        pretrained.fetch("someone/hubert", None)


def test_an_encoder_elsewhere_is_named_without_its_path(base, tmp_path):
    pretrained.prepare(str(base), None, tmp_path / "out")
    card = (tmp_path / "out/card.json").read_text()
    assert ".../base" in card and str(tmp_path) not in card
