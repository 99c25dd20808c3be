"""What a plan refuses already, so that nobody hears of it after hours; each names its key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ser.config import early_checks
from ser.config.ablations import resolve_ablations
from ser.config.encoders import resolve_encoders
from ser.config.schema import check
from ser.config.speaker_vectors import resolve_speaker_vectors
from ser.corpus.variation import check_validation
from ser.files import DataError, write_json
from ser.formats import encoder_checks

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "rules" / "config.schema.yaml"


def resolve(**sections):
    given = {
        "corpus": {"folder": "x"},
        "encoders": {"e": {"base": "base"}},
        "ablations": [{"name": "a"}],
        "baseline": "a",
    }
    config = check(given | sections, SCHEMA)
    return resolve_encoders(config), resolve_ablations(config), config


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A local encoder of 12 layers, in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "base/config.json", {"model_type": "hubert", "num_hidden_layers": 12})
    write_json(tmp_path / "wavlm/config.json", {"model_type": "wavlm", "architectures": ["WavLMModel"]})
    (tmp_path / "empty").mkdir()
    return tmp_path / "base"


def check_all(**sections):
    encoders, ablations, config = resolve(**sections)
    vectors = resolve_speaker_vectors(config)
    early_checks.check_heads(ablations, config["tuning"])
    for name, encoder in encoders.items():
        encoder_checks.check_base(name, encoder)
        encoder_checks.check_layers(name, encoders, ablations, config["pseudo_labels"], vectors)
    for each in vectors.values():
        if each.kind == "model":
            encoder_checks.check_speaker_model(each)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"ablations": [{"name": "a", "layer": 13}]},
            "config: ablations: 'a': layer is 13, but encoder 'e' has layers 0 ",
        ),
        (
            {"ablations": [{"name": "a", "layer": -14}]},
            r"layer is -14, but encoder 'e' has layers 0 to 12 \(-1 is the l",
        ),
        (
            {"encoders": {"e": {"base": "base", "frames_layer": 30}}},
            "config: encoders.e: frames_layer is 30, but encoder",
        ),
        (
            {"pseudo_labels": {"p": {"features": "layer", "encoder": "e", "layer": 99}}},
            "config: pseudo_labels.p: layer is 99, but encoder 'e' has layers 0 to 12",
        ),
        (
            {"speaker_vectors": {"v": {"features": "embeddings", "layer": 99}}},
            "config: speaker_vectors.v: layer is 99, but encoder 'e' has layers 0 to 12",
        ),
        (
            {"speaker_vectors": {"v": {"model": "base", "revision": "main"}}},
            "config: speaker_vectors.v: model 'base' is a local folder, and revision 'main' has a meaning for a hub id",
        ),
        (
            {"speaker_vectors": {"v": {"model": "base"}}},
            "config: speaker_vectors.v.model: base/config.json: model_type is 'hubert', expected one of wavlm",
        ),
        (
            {"speaker_vectors": {"v": {"model": "wavlm"}}},
            "speaker_vectors.v.model: wavlm/config.json: architectures is WavLMModel, expected a class ForXVector",
        ),
        ({"speaker_vectors": {"v": {"model": "empty"}}}, "speaker_vectors.v.model: empty: has no config.json"),
        (
            {"encoders": {"e": {"base": "base", "revision": "main"}}},
            "config: encoders.e: base 'base' is a local folder, and revision 'main' has a meaning for a hub id alone",
        ),
        (
            {"ablations": [{"name": "a", "head": "transformer"}], "heads": {"transformer": {"width": 30}}},
            "config: ablations: 'a' has a transformer head of width 30, which is no multiple of its attention_heads, 4",
        ),
        (
            {"ablations": [{"name": "a", "head": "transformer"}], "tuning": {"transformer": [{"attention_heads": 3}]}},
            r"config: tuning: a point of ablation 'a' has a transformer head of width 128, .* 3 \(tuning.transformer\)",
        ),
        ({"ablations": [{"name": "a", "layer": 12}, {"name": "b", "layer": -13}]}, None),
        ({"heads": {"transformer": {"width": 30}}}, None),  # no ablation has such a head
        ({"encoders": {"e": {"base": "someone/hubert", "frames_layer": 30}}}, None),  # nothing is known of it yet
    ],
)
def test_what_the_encoder_and_the_heads_cannot_have(base, sections, message):
    if message is None:
        check_all(**sections)
    else:
        with pytest.raises(DataError, match=message):
            check_all(**sections)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"architectures": ["HubertModel"]},
            "config: encoders.e.base: base/config.json: has no model_type, as in hubert",
        ),
        ([], "config: encoders.e.base: base/config.json: has no model_type"),
        (None, "config: encoders.e.base: base: has no config.json; expected an encoder in Hugging Face format"),
        ({"model_type": "whisper", "num_hidden_layers": 1}, None),  # how many hidden states it has is not known yet
    ],
)
def test_another_kind_of_model(base, values, message):
    (base / "config.json").unlink()
    if values is not None:
        write_json(base / "config.json", values)
    sections = {"ablations": [{"name": "a", "layer": 3}]}
    if message is None:
        check_all(**sections)
    else:
        with pytest.raises(DataError, match=message):
            check_all(**sections)


def test_a_model_of_the_hub_is_known_once_it_is_here(base):
    """Jobs read the workflow again: the first one after the download stops, not the one that trains the head."""
    plain = {"base": "someone/hubert"}
    sections = {"encoders": {"e": plain, "tapt": plain | {"adaptation": "tapt", "frames_layer": 30}}}
    write_json(Path("results/encoders/e/config.json"), {"model_type": "whisper"})
    for base, revision in ("other/hubert", None), ("someone/hubert", "v1"):  # what an earlier config made
        write_json(Path("results/encoders/e/card.json"), {"base": base, "revision": revision, "layers": 24})
        check_all(**sections)
    write_json(Path("results/encoders/e/card.json"), {"base": "someone/hubert", "revision": None, "layers": 24})
    with pytest.raises(DataError, match="frames_layer is 30, but encoder 'tapt' has layers 0 to 24"):
        check_all(**sections)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("hubert", None),
        ("wavlm", "its encoder is a WavLM, whose attention"),
        ("whisper", "its encoder is of model_type 'whisper', which bundles do not know"),
    ],
)
@pytest.mark.parametrize("which", ["read", "placing"])
def test_an_encoder_that_bundles_do_not_know(base, kind, message, which):
    """Whether heads read it or a personalised encoder places new speakers by it."""
    write_json(Path("other/config.json"), {"model_type": kind})
    papt = {"base": "base", "adaptation": "papt", "similarity": "e"}
    read = [{"name": "a", "encoder": "e" if which == "read" else "papt"}]
    encoders, ablations, _ = resolve(encoders={"e": {"base": "other"}, "papt": papt}, ablations=read)
    if message is None:
        encoder_checks.check_bundled({"b": {"ablation": "a"}}, ablations, encoders)
    else:
        with pytest.raises(DataError, match=f"config: bundles.b: encoder 'e': {message}"):
            encoder_checks.check_bundled({"b": {"ablation": "a"}}, ablations, encoders)


TUNED = {"tuning": {"dropout": [0.1, 0.2]}, "ablations": [{"name": "a"}, {"name": "ft", "finetune": {}}]}


@pytest.mark.parametrize(
    ("target", "sections", "message"),
    [
        ("results/tuning/a.csv", {}, "results/tuning/a: the config has no section tuning, .* see docs/tuning.md"),
        ("results/tuning/a.json", {}, "results/tuning/a: the config has no section tuning"),
        ("results/tuning/b.csv", TUNED, "results/tuning/b: 'b' is none of the config's ablations: a, ft"),
        (
            "results/tuning/ft.csv",
            TUNED,
            "results/tuning/ft: ablation 'ft' is fine-tuned, and tuning compares heads alone",
        ),
        (
            "results/scored/x.csv",
            {},
            "results/scored/x: the config's section scored has no 'x', but nothing: name there",
        ),
        (
            "results/scored/x.speakers.csv",
            {"scored": {"y": {"folder": "f", "ablation": "a"}}},
            "scored has no 'x', but y",
        ),
        ("results/bundles/x.zip", {}, "results/bundles/x: the config's section bundles has no 'x', but nothing: name"),
        ("results/tuning/a.csv", TUNED, None),
        ("results/scored/y.csv", {"scored": {"y": {"folder": "f", "ablation": "a"}}}, None),
        ("results/report.html", {}, None),
    ],
)
def test_files_of_sections_that_are_not_there(target, sections, message):
    _, ablations, config = resolve(**sections)
    given = (
        ["-n", "--cores", "1", target],
        ablations,
        config["tuning"],
        {key: config[key] for key in ("scored", "bundles")},
    )
    if message is None:
        early_checks.check_targets(*given)
    else:
        with pytest.raises(DataError, match=message):
            early_checks.check_targets(*given)


@pytest.mark.parametrize(
    ("labels", "least", "constant", "message"),
    [
        (
            "u1,a,1,2\nu2,a,1,3\nu3,b,2,4\nu4,b,2,5\n",
            2,
            "omit",
            "no validation speaker with 2 .* two different valence",
        ),
        (
            "u1,a,1,2\nu2,a,1,3\n",
            3,
            "omit",
            "no validation speaker has 3 utterances .*: they have 2 at most; set it to",
        ),
        ("u1,a,1,2\nu2,a,1,3\nu3,b,2,4\nu4,b,2,5\n", 2, "zero", None),
        ("u1,a,1,2\nu2,a,1,3\nu3,b,2,4\nu4,b,3,4\n", 2, "omit", None),  # one speaker for each target
        ("u1,a,1,2\nu2,a,1,3\nu3,b,2,4\n", 1, "zero", None),
    ],
)
def test_validation_speakers_by_whose_labels_nothing_can_be_chosen(tmp_path, labels, least, constant, message):
    path = tmp_path / "labels.csv"
    path.write_text(f"utterance_id,speaker_id,valence,arousal\n{labels}")
    if message is None:
        check_validation(path, ["valence", "arousal"], least, constant)
    else:
        with pytest.raises(DataError, match=message):
            check_validation(path, ["valence", "arousal"], least, constant)


@pytest.mark.parametrize(("module", "backend"), [("lean_keras", "tensorflow"), ("lean_torch_keras", "torch")])
def test_a_backend_of_the_user_s_environment_does_not_count(tmp_path, module, backend):
    """Stand-ins for the real ones: what counts is what Keras finds when it is imported."""
    (tmp_path / "torch.py").write_text("")
    (tmp_path / "keras.py").write_text("import os\nprint(os.environ['KERAS_BACKEND'])\n")
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": f"{tmp_path}:{ROOT / 'workflow_scripts'}"}
    done = subprocess.run(
        [sys.executable, "-c", f"import ser.{module}"], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == backend


def test_whether_there_is_a_gpu_is_not_asked_of_cuda_before_processes_are_forked():
    """Once CUDA itself was asked, it works in no process forked later; Keras asks when it is imported."""
    script = "import ser.lean_torch_keras, keras, torch; print(torch.cuda._nvml_based_avail())"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow_scripts")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "True"
