"""Fine-tuning with what a speaker's other utterances tell: statistics and attention from the features made last."""

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from made_corpus import write_utterance
from made_joint_model import SETTINGS, make_model

from ser.config.ablation import Ablation
from ser.files import sha256
from ser.finetuning.memory_bank import make_banks
from ser.finetuning.task import Clip, FineTuning
from ser.formats import tfrecord
from ser.formats.tfrecord import Record
from ser.heads.companions import Companions
from ser.optimisation.trainer import make_accelerator

AUDIO = {"min_seconds": 0.1, "max_seconds": 60, "silence_db": -80}
SPEAKERS = [*"aaaaaaa", *"bbb", "c", *"dd"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder, clips = tmp_path_factory.mktemp("audio"), []
    rng = np.random.default_rng(0)
    for number, speaker in enumerate(SPEAKERS):
        labels, seconds = rng.uniform(1, 7, 3), 0.6 + 0.1 * (number % 5)
        path = folder / f"{number}.wav"
        write_utterance(path, labels, 0.1 * ord(speaker) % 1, seed=number, seconds=seconds)
        clips.append(
            Clip(f"u{number}", speaker, str(path), sha256(path), seconds, labels[:2].astype(np.float32)),
        )
    return {"train": clips, "validation": clips[::-1]}


def make_task(clips, ablation, **changes):
    AcceleratorState._reset_state(True)
    model = make_model("large", reads="layers" if ablation.layer == "weighted" else "last")
    banks = make_banks(ablation, clips, model.hubert.config, 1)
    accelerator = make_accelerator("cpu", "float32")
    return FineTuning(model, clips, SETTINGS | changes, AUDIO, True, ["v", "a"], accelerator, banks=banks)


def run_epoch(task, number):
    """An epoch of gradients that change nothing."""
    task.model.train()
    plan = task.plan(number)
    whole = task.plan(0) * number + plan
    for batch in task.load(whole, len(whole) - len(plan), len(whole)):
        task.learn(task.model, [batch])


WAYS = [
    {"normalise": "speaker_mean"},
    {"normalise": "speaker", "layer": "weighted"},
    {"normalise": "speaker", "permuted": True},
    {"normalise": "speaker_mean", "enrolment": 2},
    {"normalise": "speaker_mean", "enrolment": 3, "permuted": True},
    {"attended": 3},
    {"attended": 2, "normalise": "speaker", "layer": "weighted", "permuted": True},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_encoder_that_stays_gives_what_heads_have_of_its_embeddings(clips, tmp_path, way):
    """Whose steps leave the bank as it was; rounding of float32 sums alone."""
    ablation = Ablation("e", **{"layer": -1} | way)
    task = make_task(clips, ablation)
    mean, variance = task.measure_features()
    bank = task.banks["train"]
    filled = bank.features.clone()
    bank.features.zero_()
    run_epoch(task, 0)
    torch.testing.assert_close(bank.features, filled, atol=1e-5, rtol=1e-4)
    embeddings = bank.features.numpy() if ablation.layer == "weighted" else bank.features.numpy()[:, None]
    records = [Record(c.utterance_id, c.speaker_id, "", 1, x) for c, x in zip(clips["train"], embeddings, strict=True)]
    tfrecord.write(tmp_path / "e.tfrecord", records)
    companions = Companions.read([str(tmp_path / "e.tfrecord")], ablation)
    item = bank.look(torch.arange(len(records)), bank.features)
    expected = np.stack([companions.take(record) for record in records])
    np.testing.assert_allclose(item["features"], expected, atol=1e-4)
    np.testing.assert_allclose(mean, expected.mean(0), atol=1e-4)
    np.testing.assert_allclose(variance, expected.var(0), atol=1e-4)
    if ablation.attended:
        others, known = map(np.stack, zip(*map(companions.list_others, records), strict=True))
        np.testing.assert_array_equal(item["known"], known)
        shown = item["others"].numpy() * known.reshape(known.shape + (1,) * (others.ndim - 2))
        np.testing.assert_allclose(shown, others, atol=1e-4)


@pytest.mark.parametrize("way", [WAYS[3], WAYS[6]], ids=str)
def test_the_gradient_of_a_batch_in_parts_is_that_of_the_whole(clips, way):
    """As without; each row is that of its utterance whatever the order of the parts. 1e-5 of the norm."""
    found = []
    for seconds in (60, 1.5):
        task = make_task(clips, Ablation("e", **{"layer": -1} | way), batch_size=9, micro_batch_seconds=seconds)
        task.measure_features()
        run_epoch(task, 1)
        found.append({name: p.grad for name, p in task.model.named_parameters() if p.grad is not None})
    norm, apart = (
        sum(x.double().square().sum() for x in gradients).sqrt()
        for gradients in (found[0].values(), [found[0][name] - found[1][name] for name in found[0]])
    )
    assert norm > 1e-3 and apart / norm < 1e-5


def test_others_are_drawn_anew_in_each_epoch_and_are_constants(clips):
    task = make_task(clips, Ablation("e", layer=-1, attended=2, normalise="speaker"))
    task.measure_features()
    bank, rows = task.banks["train"], torch.arange(len(SPEAKERS))
    features = bank.features.clone().requires_grad_()
    first, second, again, fixed = (bank.look(rows, features, epoch) for epoch in (0, 1, 0, None))
    torch.testing.assert_close(first, again)
    assert not torch.equal(first["others"], second["others"]) and not torch.equal(first["others"], fixed["others"])
    assert features.grad_fn is None and not first["others"].requires_grad
    bank.put(rows[:1], features[:1] + 1)
    assert not bank.features.requires_grad and torch.equal(bank.features[1:], features[1:])


def test_validation_is_of_the_encoder_as_it_is(clips):
    """The same utterances in another split and order are predicted the same, whatever was there before."""
    task = make_task(clips, Ablation("e", layer=-1, normalise="speaker", attended=2))
    task.measure_features()
    task.banks["validation"].features.fill_(7)
    task.model.eval()
    found = {}
    with torch.no_grad():
        for split in task.clips:
            rows = [row for rows, _ in task._visit(split) for row in rows.tolist()]
            values = torch.cat([predictions for _, predictions in task._predict(split)])
            found[split] = {clips[split][row].utterance_id: x for row, x in zip(rows, values, strict=True)}
    for name, value in found["train"].items():
        torch.testing.assert_close(value, found["validation"][name], atol=1e-4, rtol=1e-4)
