"""The loss of a whole batch, and its gradient in parts: each trained tensor has one, and it is that of the whole."""

import numpy as np
import pytest
import torch
from made_joint_model import (
    FAMILIES,
    LAYERS,
    METHODS,
    SETTINGS,
    Head,
    learn,
    make_hubert,
    make_model,
    make_waves,
    prepare,
)

from ser.finetuning import gradient_caching, loss
from ser.finetuning.joint_model import JointModel
from ser.statistics.ccc import compute_ccc


@pytest.mark.parametrize("reads", ["last", "layers", "frames"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_after_a_step_each_tensor_that_is_trained_has_a_gradient_and_has_moved(family, method, reads):
    """Twice: an adapter's first factor has none while the second is still 0."""
    model = make_model(family, method, reads)
    labels = torch.from_numpy(np.random.default_rng(1).uniform(1, 7, (5, 2)).astype(np.float32))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)  # as in a job
    for _ in range(2):
        gradients = learn(model, make_waves(), labels, [[0, 1], [2, 3, 4]])
        optimizer.step()
    assert set(gradients) == trained and all(g.abs().sum() > 0 for n, g in gradients.items() if not _blind(n))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in trained if not _blind(name)} <= moved <= trained
    assert not any("feature_extractor" in name for name in trained)
    if method == "top":
        assert {name.split(".")[3] for name in trained if ".layers." in name} == {str(LAYERS - 1)}
    if method == "lora":
        adapters = {name for name in trained if not name.startswith("head.")}
        assert len(adapters) == 2 * 6 * LAYERS and all(name.endswith((".down", ".up")) for name in adapters)


def _blind(name: str) -> bool:
    """Tensors that nothing depends on: a softmax is the same whatever all of its keys are moved by."""
    return name.endswith("k_proj.bias")


@pytest.mark.parametrize("reads", ["last", "layers", "frames"])
@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_of_a_batch_in_parts_is_that_of_the_whole(method, reads):
    """Float32 sums in another order: 1e-5 of the norm. The head normalises by the whole batch in both."""
    model = make_model("large", method, reads)
    labels = torch.from_numpy(np.random.default_rng(1).uniform(1, 7, (7, 2)).astype(np.float32))
    waves = make_waves(7)
    whole = learn(model, waves, labels, [[3, 0, 1, 2, 4, 5, 6]])
    parts = learn(model, waves, labels, [[3, 0], [1], [2, 4, 5, 6]])
    norm = sum(g.double().square().sum() for g in whole.values()).sqrt()
    apart = sum((whole[n] - parts[n]).double().square().sum() for n in whole).sqrt()
    assert norm > 1e-3 and apart / norm < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@pytest.mark.parametrize("reads", ["last", "frames"])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_on_a_gpu_is_that_on_a_cpu(method, reads):
    """In float32: other kernels sum in another order, and matrix products may use TensorFloat-32's 10 bits."""
    labels = torch.from_numpy(np.random.default_rng(1).uniform(1, 7, (5, 2)).astype(np.float32))
    found = []
    for device in ("cpu", "cuda"):
        model = make_model("large", method, reads).to(device)
        gradients = learn(model, make_waves(), labels.to(device), [[0, 1], [2, 3, 4]])
        found.append({name: gradient.double().cpu() for name, gradient in gradients.items()})
    norm = sum(g.square().sum() for g in found[0].values()).sqrt()
    apart = sum((found[0][n] - found[1][n]).square().sum() for n in found[0]).sqrt()
    assert apart / norm < 0.02


def test_dropout_is_the_same_in_both_passes(monkeypatch):
    """With it, the gradient is that of one graph over the same draws."""
    model = make_model("base", "whole", dropout=0.3)
    labels = torch.from_numpy(np.random.default_rng(1).uniform(1, 7, (5, 2)).astype(np.float32))
    waves, groups = make_waves(), [[0, 1], [2], [3, 4]]
    cached = learn(model, waves, labels, groups)

    def one_graph(encode, finish, groups, seed):
        encoded = []
        for number, group in enumerate(groups):
            torch.manual_seed(seed + number)
            encoded.append(encode(group))
        torch.manual_seed(seed + len(groups))
        finish(torch.cat(encoded)).backward()

    monkeypatch.setattr(gradient_caching, "backpropagate", one_graph)
    expected = learn(model, waves, labels, groups)
    other = learn(model, waves, labels, groups, seed=4)
    norm = sum(g.double().square().sum() for g in expected.values()).sqrt()
    apart = [sum((g[n] - expected[n]).double().square().sum() for n in g).sqrt() / norm for g in (cached, other)]
    assert apart[0] < 1e-5 < 0.1 < apart[1]


def test_layers_computed_again_for_the_gradient_give_the_same():
    labels = torch.from_numpy(np.random.default_rng(1).uniform(1, 7, (5, 2)).astype(np.float32))
    found = []
    for again in (False, True):
        torch.manual_seed(1)
        model = JointModel(make_hubert(dropout=0.2), Head(), SETTINGS | {"gradient_checkpointing": again})
        found.append(learn(model, make_waves(), labels, [[0, 1, 2], [3, 4]]))
    assert all(torch.allclose(found[0][n], found[1][n], atol=1e-7) for n in found[0])


def test_memory_does_not_grow_with_the_batch():
    """Of what autograd holds at once: the saved tensors of one group, however many groups there are."""
    held, most = 0, 0

    def pack(x):
        nonlocal held, most
        held += x.nbytes
        most = max(most, held)
        return x

    peaks = []
    model = make_model()
    for n in (4, 32):
        labels = torch.from_numpy(np.random.default_rng(1).uniform(1, 7, (n, 2)).astype(np.float32))
        waves = [make_waves(1)[0] for _ in range(n)]
        model.zero_grad()
        model.train()
        parts, most = prepare(model, waves), 0

        def encode(group):
            nonlocal held
            held = 0
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
                return model.features(group)["features"]

        def finish(encoded, labels=labels):
            return loss.ccc_loss(labels, model.head({"features": encoded}), torch.ones(len(labels)))

        gradient_caching.backpropagate(encode, finish, [parts[i : i + 2] for i in range(0, n, 2)], 1)
        peaks.append(most)
    assert peaks[0] == peaks[1] > 0


def test_the_loss_is_one_minus_ccc_and_weights_repeat_utterances():
    rng = np.random.default_rng(0)
    labels, predictions = (torch.from_numpy(rng.uniform(1, 7, (9, 2)).astype(np.float32)) for _ in range(2))
    expected = np.mean([1 - compute_ccc(labels[:, t].numpy(), predictions[:, t].numpy()) for t in range(2)])
    assert float(loss.ccc_loss(labels, predictions, torch.ones(9))) == pytest.approx(expected, abs=1e-6)
    weights = torch.tensor([2.0] + [1.0] * 8)
    twice = [torch.cat([x[:1], x]) for x in (labels, predictions)]
    found = [loss.ccc_loss(labels, predictions, weights), loss.ccc_loss(*twice, torch.ones(10))]
    assert float(found[0]) == pytest.approx(float(found[1]), abs=1e-6)
    sums = loss.sum_moments(labels[:4], predictions[:4]) + loss.sum_moments(labels[4:], predictions[4:])
    assert np.mean(loss.ccc_of_sums(sums.tolist())) == pytest.approx(1 - expected, abs=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_labels_that_are_all_the_same_give_a_finite_gradient(size):
    predictions = torch.full((size, 1), 4.0, requires_grad=True)
    loss.ccc_loss(torch.full((size, 1), 4.0), predictions, torch.ones(size)).backward()
    assert torch.isfinite(predictions.grad).all()
    assert loss.ccc_of_sums(loss.sum_moments(torch.full((size, 1), 4.0), predictions).tolist()) == [0]


def test_groups_are_of_like_length_and_fit():
    lengths = [50, 10, 300, 20, 40, 30]
    groups = gradient_caching.split_parts(lengths, 100)
    assert groups == [[1, 3, 5, 4], [0], [2]]  # the longest alone is more than fits
