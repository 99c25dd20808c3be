"""Fine-tuning's batches, the loop around them, and what a run keeps."""

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from made_corpus import write_utterance
from made_joint_model import METHODS, SETTINGS, make_model

from ser.config.ablation import Ablation
from ser.config.finetuning import check_size
from ser.files import DataError, sha256
from ser.finetuning.memory_bank import make_banks
from ser.finetuning.task import Clip, FineTuning, plan_batches
from ser.optimisation import trainer
from ser.optimisation.trainer import Trainer, make_accelerator, schedule_rate

AUDIO = {"min_seconds": 0.1, "max_seconds": 60, "silence_db": -80}


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(True)


@pytest.mark.parametrize(("count", "size"), [(2, 2), (33, 32), (63, 32), (64, 32), (65, 32), (7, 3)])
def test_batches_hold_everyone_once_and_none_is_left_with_a_tail(count, size):
    batches = plan_batches(count, size, np.random.default_rng(0))
    sizes = list(map(len, batches))
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1 and min(sizes) > 1
    again, other = (plan_batches(count, size, np.random.default_rng(seed)) for seed in (0, 1))
    assert all(map(np.array_equal, batches, again))
    assert count == 2 or not all(map(np.array_equal, batches, other))


@pytest.mark.parametrize(("count", "most"), [(32, 32), (33, 16), (64, 32), (65, 21)])
def test_more_gpus_than_a_batch_has_utterances_are_refused(count, most):
    """33 utterances are batches of 17 and 16."""
    batches = plan_batches(count, 32, np.random.default_rng(0))
    fits, fails = (Ablation("e", finetune={"batch_size": 32, "gpus": gpus}) for gpus in (most, most + 1))
    assert all(len(part) for batch in batches for part in np.array_split(batch, most))
    check_size("ft", fits, count)
    assert not all(len(part) for batch in batches for part in np.array_split(batch, most + 1))
    with pytest.raises(DataError, match=f"finetuning: gpus is {most + 1}, .* set gpus to {most} or less"):
        check_size("ft", fails, count)


def test_the_rate_stays_where_it_does_not_decay():
    assert [schedule_rate(step, 10, 0.2, decays=False) for step in range(4)] == [0.5, 1, 1, 1]
    assert schedule_rate(0, 10, 0, decays=False) == 1


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Utterances whose label is the pitch that can be heard in them."""
    folder, clips = tmp_path_factory.mktemp("audio"), {}
    for split, count in (("train", 14), ("validation", 6)):
        rng, clips[split] = np.random.default_rng(len(split)), []
        for number in range(count):
            labels = rng.uniform(1, 7, 3)
            path = folder / f"{split}{number}.wav"
            write_utterance(path, labels, 0.5, seed=number, seconds=0.6 + 0.1 * (number % 5))
            facts = path.stem, f"s{number % 3}", str(path), sha256(path), 0.6 + 0.1 * (number % 5)
            clips[split].append(Clip(*facts, labels[:2].astype(np.float32)))
    return clips


def train(clips, folder, method="whole", reads="last", others=None, **changes):
    """A run of the loop; the model after it, and the trainer. `others` are settings of an ablation."""
    AcceleratorState._reset_state(True)
    settings = SETTINGS | METHODS[method] | changes
    accelerator = make_accelerator("cpu", settings["precision"])
    model = make_model("large", method, reads, dropout=0.1)
    banks = make_banks(Ablation("e", layer=-1, **others), clips, model.hubert.config, 1) if others else {}
    task = FineTuning(model, clips, settings, AUDIO, True, ["valence", "arousal"], accelerator, banks=banks)
    task.measure_features()
    run = Trainer(task, settings, accelerator, folder / "checkpoint.pt", "this", folder / "tensorboard", decays=False)
    run.train()
    return task.model, run


@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "others"), [*((name, None) for name in METHODS), ("whole", {"normalise": "speaker", "attended": 2})]
)
def test_a_run_that_was_killed_goes_on_to_the_same_weights(clips, tmp_path, monkeypatch, method, others):
    expected, whole = train(clips, tmp_path / "whole", method, others=others, epochs=3)
    save = trainer.Trainer._save

    def save_and_die(run, step, *rest):
        save(run, step, *rest)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.Trainer, "_save", save_and_die)
        train(clips, tmp_path / "killed", method, others=others, epochs=3)
    model, run = train(clips, tmp_path / "killed", method, others=others, epochs=3)
    assert run.curve == whole.curve and run.best["epoch"] == whole.best["epoch"]
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_training_stops_without_a_better_epoch_and_keeps_the_best_weights(clips, tmp_path, monkeypatch):
    scores, summarise = iter([0.0, 0.1, 0.4, 0.3, 0.2, 0.9]), FineTuning.summarise
    states = []

    def scripted(task, sums):
        values = summarise(task, sums)
        if not sums[-1]:  # of the validation split
            states.append({name: tensor.clone() for name, tensor in task.model.state_dict().items()})
            values[1] = next(scores)
        return values

    monkeypatch.setattr(FineTuning, "summarise", scripted)
    model, run = train(clips, tmp_path, epochs=9, patience=2)
    assert run.best["epoch"] == 2 and max(row["epoch"] for row in run.curve) == 4
    assert all(torch.equal(tensor, states[2][name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(states[2]["head.out.weight"], states[4]["head.out.weight"])


def test_a_step_size_that_goes_out_of_bounds_is_said(clips, tmp_path):
    message = r"fine-tuning: the loss is .* at step .*; lower learning_rate \(now 1e\+30\) or head_learning_rate \(now "
    with pytest.raises(DataError, match=message + r"1e\+30\) in finetuning, or in the ablation's own finetune$"):
        train(clips, tmp_path, learning_rate=1e30, head_learning_rate=1e30, epochs=5)


@pytest.mark.long
def test_it_learns_what_can_be_heard(clips, tmp_path):
    _, run = train(clips, tmp_path, epochs=25, patience=25, learning_rate=1e-3)
    losses = [row["loss"] for row in run.curve if row["split"] == "train"]
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:6])


def test_an_encoder_that_does_not_move_trains_the_head_alone(clips, tmp_path):
    start = make_model("large", "whole", dropout=0.1).hubert.state_dict()
    model, _ = train(clips, tmp_path, learning_rate=0.0, weight_decay=0.0)
    assert all(torch.equal(tensor, start[name]) for name, tensor in model.hubert.state_dict().items())
    assert not torch.equal(model.head.out.weight, make_model("large", "whole", dropout=0.1).head.out.weight)


def test_statistics_are_of_what_the_head_reads(clips, tmp_path):
    accelerator = make_accelerator("cpu", "float32")
    for reads in ("last", "layers", "frames"):
        model = make_model("large", reads=reads)
        task = FineTuning(model, clips, SETTINGS, AUDIO, True, ["valence", "arousal"], accelerator)
        mean, variance = task.measure_features()
        rows = []
        with torch.no_grad():
            for _, parts in task._visit("train"):
                for part in parts:
                    rows.append(model.features([part])["features"][0].numpy())
        x = np.concatenate(rows) if reads == "frames" else np.stack(rows)
        np.testing.assert_allclose(mean, x.mean(0), atol=1e-5)
        np.testing.assert_allclose(variance, x.var(0), atol=1e-4)


def test_bfloat16_trains(clips, tmp_path):
    """What is measured before any step is that of float32 to the format's 8 bits; dropout is drawn otherwise then."""
    (_, expected), (model, found) = (train(clips, tmp_path / name, precision=name) for name in ("float32", "bfloat16"))
    assert found.curve[0]["loss"] == pytest.approx(expected.curve[0]["loss"], abs=0.02)
    assert len(found.curve) == len(expected.curve) and found.curve != expected.curve
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())
