"""Fine-tuned ablations from audio to what a job leaves: encoder, head, card and curve; predictions of both agree."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import keras
import made_finetuning as made
import numpy as np
import pyarrow.parquet as pq
import pytest

from ser.adaptation.neighbours import place_speakers, read_means
from ser.adaptation.prediction_head import read_vectors
from ser.encoders.embed import embed_shard
from ser.files import read_json, sha256, write_json
from ser.heads.model import find_layer
from ser.heads.prediction import load_heads, predict_split

pytestmark = pytest.mark.long

TESTS = Path(__file__).parents[1]
FAILING = """
import sys
from pathlib import Path
import ser.lean_torch_keras
import torch
from made_finetuning import make_inputs, tune
from ser.files import DataError
from ser.finetuning.task import FineTuning

def run_out(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

folder = Path(sys.argv[1])
make_inputs(folder)
for fault in ({"learn": run_out}, {"summarise": lambda *_: [float("nan")]}):
    for name, function in fault.items():
        setattr(FineTuning, name, function)
    try:
        tune(folder, "mlp")
    except DataError as error:
        print(error)
"""


def tune(folder: Path, *names: str) -> str:
    """Cases of `made_finetuning`, tuned in a process of its own; what it printed."""
    done = run_python(TESTS / "made_finetuning.py", folder, *names)
    return done.stdout + done.stderr


def run_python(*arguments) -> subprocess.CompletedProcess:
    paths = os.pathsep.join(map(str, (TESTS.parent / "workflow_scripts", TESTS)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder with every case, and what was printed."""
    folder = tmp_path_factory.mktemp("tuned")
    made.make_inputs(folder)
    return folder, tune(folder, *made.CASES)


def test_what_went_wrong_names_the_ablation_and_the_keys_with_their_values(tmp_path):
    memory, loss = run_python("-c", FAILING, tmp_path).stdout.splitlines()
    assert memory == (
        "ablation 'mlp': memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB); in finetuning, or in the "
        "ablation's own finetune, set micro_batch_seconds to less (now 2; the loss stays that of the whole batch), "
        "crop_seconds to less (now 5.0), or gradient_checkpointing to true (now false)"
    )
    assert loss == (
        "ablation 'mlp': fine-tuning: the loss is nan at step 0; lower learning_rate (now 0.001) or "
        "head_learning_rate (now 0.01) in finetuning, or in the ablation's own finetune"
    )


def test_no_process_that_trains_imports_tensorflow(tuned):
    """TensorFlow before torch's CUDA build can end in a segmentation fault; Keras imports it where it can."""
    assert "TensorFlow: None" in tuned[1]


def find_vectors(folder, case, tmp_path):
    """The vectors of validation speakers as embedding reads them: of tuned ones the mean over similar speakers."""
    if case != "vectors":
        return folder / "validation-vectors.json" if case == "papt" else None
    tuned = read_vectors(folder / case / "encoder/adaptation.safetensors")
    placed = place_speakers(read_means([folder / "means.parquet"]), list(tuned), 2)
    assert sorted(placed) == ["validation0", "validation1"]
    vectors = {speaker: np.mean([tuned[name] for name in names], 0).tolist() for speaker, names in placed.items()}
    write_json(tmp_path / "vectors.json", vectors)
    return tmp_path / "vectors.json"


def test_vectors_of_speakers_are_tuned_where_the_config_says_so(tuned):
    folder = tuned[0]
    before, after = (
        read_vectors(path / "adaptation.safetensors") for path in (folder / "papt_base", folder / "vectors/encoder")
    )
    assert list(before) == list(after) == [f"train{number}" for number in range(4)]
    assert all(0 < np.abs(after[name] - before[name]).max() < 0.1 for name in before)
    assert not (folder / "papt/encoder/adaptation.safetensors").exists()


@pytest.mark.parametrize("case", made.CASES)
def test_the_workflow_predicts_what_the_joint_model_did(tuned, tmp_path, case):
    """From cached float32 features, with TensorFlow: 1e-4 on a scale of 1 to 7."""
    folder, ablation = tuned[0], made.ablation_of(case)
    out = folder / case
    frames = str(tmp_path / "frames.tfrecord") if ablation.reads_frames else None
    embed_shard(
        manifest=folder / "validation.csv",
        encoder_dir=out / "encoder",
        pooled_path=tmp_path / "pooled.tfrecord",
        frames_path=frames,
        frames_layer=-1,
        dtype="float32",
        device="cpu",
        threads=1,
        audio=made.AUDIO,
        reuse_dir=None,
        fingerprint="",
        vectors_path=find_vectors(folder, case, tmp_path),
        output=ablation.layer != "weighted",
    )
    predict_split(
        load_heads({1: str(out / "model.keras")}),
        ablation,
        [frames or str(tmp_path / "pooled.tfrecord")],
        [str(folder / "validation-speakers.json")],
        made.TARGETS,
        f"{tmp_path}/{{kind}}.parquet",
    )
    table = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    joint = np.load(out / "joint.npz")
    expected = dict(zip(joint["paths"].tolist(), joint["values"], strict=True))
    assert sorted(expected) == table["utterance_id"] and len(expected) == 6
    for row, utterance in enumerate(table["utterance_id"]):
        np.testing.assert_allclose([table[t][row] for t in made.TARGETS], expected[utterance], atol=1e-4)
    assert np.std(joint["values"]) > 1e-3


def test_a_head_is_the_model_that_every_ablation_has(tuned):
    model = keras.saving.load_model(tuned[0] / "mlp/model.keras", compile=False, safe_mode=True)
    assert keras.backend.backend() == "tensorflow"
    assert [x.name for x in model.inputs] == ["features"] and sorted(model.output) == ["fused", "labels"]


@pytest.mark.parametrize("case", [case for case in made.CASES if case != "lost"])  # whose head is told to stay
def test_every_weight_of_a_head_learns(tuned, case):
    """A step of Adam is about the head's learning rate, 1e-2; weight decay alone would move by a millionth.

    A bias of the keys has no gradient: a softmax is the same whatever all of its keys are moved by.
    """
    moves = read_json(tuned[0] / case / "moves.json")
    still = [path for path, move in moves.items() if move < 1e-3 and not path.endswith("key/bias")]
    assert len(moves) >= 4 and not still


def test_the_card_says_what_it_came_from_and_what_it_heard(tuned):
    folder = tuned[0]
    card = read_json(folder / "mlp/encoder/card.json")
    base = read_json(folder / "base/card.json")
    assert card["from_weights_sha256"] == base["weights_sha256"] != card["weights_sha256"]
    assert card["weights_sha256"] == sha256(folder / "mlp/encoder/model.safetensors")
    assert (card["base"], card["weights"], card["finetuned"], card["seed"]) == ("made", "finetuned", "mlp", 1)
    assert card["heard"][0] == "before" and card["heard"][1].startswith("train, with labels: 12 audio files")
    assert len((folder / "mlp/encoder/heard.txt").read_text().split()) == 12
    assert card["trained_on"] == {"split": "train", "labels": made.TARGETS, "utterances": 12, "hours": 0.0023}
    assert card["chosen_on"]["split"] == "validation"
    assert (card["masking"], card["layerdrop"], card["parameters"]) == ("none", 0, base["parameters"])
    assert read_json(folder / "papt/encoder/card.json")["position"] == "last"


def test_curve_and_history_tell_the_same_epochs(tuned):
    folder = tuned[0] / "mlp"
    with open(folder / "encoder/training.csv", newline="") as file:
        curve = [row for row in csv.DictReader(file) if row["split"] == "validation" and row["epoch"] != "0"]
    with open(folder / "history.csv", newline="") as file:
        history = list(csv.DictReader(file))
    assert [(row["epoch"], row["target"]) for row in history] == [
        (str(epoch), target) for epoch in (1, 2) for target in sorted(made.TARGETS)
    ]
    for row in curve:
        own = {h["target"]: float(h["validation_ccc"]) for h in history if h["epoch"] == row["epoch"]}
        assert own == {target: float(row[f"{target}_ccc"]) for target in made.TARGETS}
    best = max(curve, key=lambda row: float(row["ccc"]))
    assert read_json(folder / "encoder/card.json")["epoch"] == int(best["epoch"])
    assert not (folder / "state.pt").exists() and list((folder / "tensorboard").iterdir())


def test_a_seed_that_learned_nothing_is_said(tuned):
    card = read_json(tuned[0] / "lost/encoder/card.json")
    assert not card["learned"] and card["validation_ccc"] < 0.05


def test_similar_speakers_count_more(tuned):
    """The same seed without weights gives another model."""
    weights = [sha256(tuned[0] / case / "encoder/model.safetensors") for case in ("mlp", "weighted")]
    assert weights[0] != weights[1]


def test_the_same_seed_gives_the_same_bytes(tuned, tmp_path):
    made.make_inputs(tmp_path)
    tune(tmp_path, "frames")
    for name in ("encoder/model.safetensors", "encoder/training.csv", "model.keras", "history.csv"):
        assert (tmp_path / "frames" / name).read_bytes() == (tuned[0] / "frames" / name).read_bytes(), name


def test_the_averages_of_batch_normalisation_follow_in_few_steps(tuned):
    """The epoch is chosen by what the head predicts with them."""
    model = keras.saving.load_model(tuned[0] / "mlp/model.keras", compile=False, safe_mode=True)
    assert find_layer(model, "batch_norm_0").momentum == 0.9
