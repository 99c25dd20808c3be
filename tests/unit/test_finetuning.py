"""The parts of fine-tuning: the packed encoder, methods, batches, the loss of a whole batch, the loop around them."""

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from made_corpus import write_utterance
from torch import nn
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from ser.encoders import pretrained
from ser.encoders.engine import Encoder
from ser.encoders.past import Past
from ser.files import DataError, sha256
from ser.finetuning import gradient_caching, loss
from ser.finetuning.joint_model import JointModel
from ser.finetuning.methods import LowRank, merge_adapters
from ser.finetuning.task import Clip, FineTuning, plan_batches
from ser.optimisation import trainer
from ser.optimisation.trainer import Trainer, make_accelerator, schedule_rate
from ser.statistics.ccc import compute_ccc

AUDIO = {"min_seconds": 0.1, "max_seconds": 60, "silence_db": -80}
DROPOUTS = ["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"]
WIDTH, LAYERS = 16, 3
SETTINGS = {
    **{
        "method": "whole",
        "epochs": 2,
        "patience": 3,
        "batch_size": 6,
        "learning_rate": 3e-3,
        "head_learning_rate": 1e-2,
    },
    **{"weight_decay": 1e-4, "warmup": 0.0, "clip": 1, "crop_seconds": 1.0, "micro_batch_seconds": 1.5},
    **{"gradient_checkpointing": False, "precision": "float32", "threads": 1, "checkpoint_steps": 2},
    **{"seed": 1, "accumulate": 1},
}
METHODS = {"whole": {"method": "whole"}, "top": {"method": "top", "layers": 1}, "lora": {"method": "lora", "rank": 2}}
FAMILIES = {
    "base": {},
    "large": {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
}


@pytest.fixture(autouse=True)
def fresh_accelerator():
    AcceleratorState._reset_state(True)


def make_hubert(family="base", dropout=0.0, seed=0) -> HubertModel:
    torch.manual_seed(seed)
    config = HubertConfig(
        conv_dim=[8] * 7,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **dict.fromkeys(DROPOUTS, dropout),
        **FAMILIES[family],
    )
    return HubertModel(config).eval()


class Head(nn.Module):
    """A stand-in for Keras' head: what it reads, averaged, then a hidden layer with the batch's own statistics."""

    def __init__(self, targets=2, dropout=0.0, norm=True):
        super().__init__()
        self.hidden, self.norm = nn.Linear(WIDTH, 8), nn.BatchNorm1d(8) if norm else nn.Identity()
        self.dropout, self.out = nn.Dropout(dropout), nn.Linear(8, targets)

    def forward(self, item):
        x = item["features"]
        if "n_frames" in item:
            mask = torch.arange(x.shape[1], device=x.device)[None] < item["n_frames"]
            x = (x * mask[..., None]).sum(1) / item["n_frames"]
        elif x.dim() == 3:
            x = x.mean(1)
        if "speaker" in item:
            x = x + item["speaker"].mean(1, keepdim=True)
        return self.out(self.norm(self.dropout(torch.relu(self.hidden(x))))) + 4


def make_model(family="base", method="whole", reads="last", dropout=0.0, **options) -> JointModel:
    hubert = make_hubert(family, dropout)
    torch.manual_seed(1)
    settings = SETTINGS | METHODS[method]
    return JointModel(hubert, Head(dropout=dropout, norm=reads != "frames"), settings, reads, **options)


def make_waves(n=5, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(int(rng.integers(5000, 12000))).astype(np.float32) for _ in range(n)]


def prepare(model, waves, vectors=None):
    vectors = [None] * len(waves) if vectors is None else list(map(torch.from_numpy, vectors))
    device = next(model.parameters()).device
    waves = [torch.from_numpy(wave).to(device) for wave in waves]
    return [model.prepare(wave, vector) for wave, vector in zip(waves, vectors, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("position", [None, "last", "first", "prefix"])
def test_features_are_those_that_the_workflow_will_cache(tmp_path, family, method, position):
    """The engine's, whose arithmetic the tests of embedding hold to transformers'; float32 on both sides."""
    model = make_model(family, method, position=position).eval()
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    pretrained.save(make_hubert(family), extractor, tmp_path, Past(), position=position)
    waves = make_waves()
    vectors = None if position is None else list(np.random.default_rng(5).standard_normal((5, WIDTH), np.float32))
    encoder = Encoder(tmp_path, "cpu", 1)
    outputs = encoder.embed(waves, LAYERS, vectors, output=True)
    layers = np.stack([e.pooled for e in encoder.embed(waves, None, vectors)])
    with torch.no_grad():
        parts = prepare(model, waves, vectors)
        last = model.features(parts)["features"].numpy()
        model.reads = "layers"
        every = model.features(prepare(model, waves, vectors))["features"].numpy()
        model.reads = "frames"
        frames = model.features(parts)
    np.testing.assert_allclose(last, np.stack([e.pooled[0] for e in outputs]), atol=2e-5)
    np.testing.assert_allclose(every, layers, atol=2e-5)
    for row, n, output in zip(frames["features"].numpy(), frames["n_frames"][:, 0], outputs, strict=True):
        assert n == output.n_frames == len(output.frames)
        np.testing.assert_allclose(row[:n], output.frames, atol=5e-5)


def test_the_output_is_that_of_transformers():
    hubert, wave = make_hubert("large"), make_waves(1)[0]
    with torch.no_grad():
        expected = hubert(torch.from_numpy(wave)[None]).last_hidden_state[0].mean(0)
        model = make_model("large").eval()
        found = model.features(prepare(model, [wave]))["features"][0]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def learn(model, waves, labels, groups, seed=3):
    """The gradient of 1 - CCC over all waves, computed in `groups`."""
    model.zero_grad()
    model.train()
    parts = prepare(model, waves)
    order = [i for group in groups for i in group]
    weights = torch.ones(len(order), device=labels.device)

    def encode(group):
        item = model.features(group)
        return model.head(item) if model.reads == "frames" else item["features"]

    def finish(encoded):
        predictions = encoded if model.reads == "frames" else model.head({"features": encoded})
        return loss.ccc_loss(labels[order], predictions, weights)

    gradient_caching.backpropagate(encode, finish, [[parts[i] for i in group] for group in groups], seed)
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


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


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_adapters_predict_what_they_did_and_load_anywhere(tmp_path, family):
    model = make_model(family, "lora")
    labels = torch.from_numpy(np.random.default_rng(1).uniform(1, 7, (5, 2)).astype(np.float32))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.5)
    for _ in range(3):
        learn(model, make_waves(), labels, [[0, 1, 2, 3, 4]])
        optimizer.step()
    model.eval()
    with torch.no_grad():
        adapted = model.features(prepare(model, make_waves()))["features"]
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False)
    pretrained.save(merge_adapters(model.hubert), extractor, tmp_path, Past())
    assert not any(isinstance(module, LowRank) for module in model.modules())
    loaded, info = HubertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    plain = make_hubert(family)
    with torch.no_grad():
        for found, wave in zip(adapted, make_waves(), strict=True):
            wave = torch.from_numpy(wave)[None]
            np.testing.assert_allclose(loaded.eval()(wave).last_hidden_state[0].mean(0), found, atol=5e-5)
            assert (plain(wave).last_hidden_state[0].mean(0) - found).abs().max() > 1e-3


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


@pytest.mark.parametrize(("count", "size"), [(2, 2), (33, 32), (63, 32), (64, 32), (65, 32), (7, 3)])
def test_batches_hold_everyone_once_and_none_is_left_with_a_tail(count, size):
    batches = plan_batches(count, size, np.random.default_rng(0))
    sizes = list(map(len, batches))
    assert sorted(np.concatenate(batches)) == list(range(count))
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1 and min(sizes) > 1
    again, other = (plan_batches(count, size, np.random.default_rng(seed)) for seed in (0, 1))
    assert all(map(np.array_equal, batches, again))
    assert count == 2 or not all(map(np.array_equal, batches, other))


def test_groups_are_of_like_length_and_fit():
    lengths = [50, 10, 300, 20, 40, 30]
    groups = gradient_caching.split_parts(lengths, 100)
    assert groups == [[1, 3, 5, 4], [0], [2]]  # the longest alone is more than fits


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
            clip = Clip(
                f"s{number % 3}", str(path), sha256(path), 0.6 + 0.1 * (number % 5), labels[:2].astype(np.float32)
            )
            clips[split].append(clip)
    return clips


def train(clips, folder, method="whole", reads="last", **changes):
    """A run of the loop; the model after it, and the trainer."""
    AcceleratorState._reset_state(True)
    settings = SETTINGS | METHODS[method] | changes
    accelerator = make_accelerator("cpu", settings["precision"])
    task = FineTuning(
        make_model("large", method, reads, dropout=0.1),
        clips,
        settings,
        AUDIO,
        True,
        ["valence", "arousal"],
        accelerator,
    )
    run = Trainer(task, settings, accelerator, folder / "checkpoint.pt", "this", folder / "tensorboard", decays=False)
    run.train()
    return task.model, run


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_killed_goes_on_to_the_same_weights(clips, tmp_path, monkeypatch, method):
    expected, whole = train(clips, tmp_path / "whole", method, epochs=3)
    save = trainer.Trainer._save

    def save_and_die(run, step, *rest):
        save(run, step, *rest)
        if step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.Trainer, "_save", save_and_die)
        train(clips, tmp_path / "killed", method, epochs=3)
    model, run = train(clips, tmp_path / "killed", method, epochs=3)
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
    with pytest.raises(DataError, match="fine-tuning: the loss is .* at step .*; try a smaller learning rate"):
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


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_masked_and_no_layer_is_left_out(method):
    """Whatever the checkpoint's config says: without dropout, training mode gives what evaluation gives."""
    hubert = make_hubert()
    hubert.config.update({"apply_spec_augment": True, "mask_time_prob": 0.9, "mask_time_length": 10, "layerdrop": 0.9})
    model = JointModel(hubert, Head(), SETTINGS | METHODS[method])
    waves = [*make_waves(3), make_waves(1)[0][:1000]]  # shorter than a masked span would be
    found = []
    for mode in (True, False):
        model.train(mode)
        with torch.no_grad():
            found.append(model.features(prepare(model, waves))["features"])
    assert torch.equal(*found)


def test_what_is_not_trained_has_no_dropout():
    """So it is computed once; the upper layer's own is drawn anew."""
    model = make_model(method="top", dropout=0.5).train()
    waves = make_waves(2)
    first, second = (prepare(model, waves) for _ in range(2))
    assert all(torch.equal(one.x, other.x) for one, other in zip(first, second, strict=True))
    with torch.no_grad():
        assert not torch.equal(model.features(first)["features"], model.features(first)["features"])


def test_bfloat16_trains(clips, tmp_path):
    """What is measured before any step is that of float32 to the format's 8 bits; dropout is drawn otherwise then."""
    (_, expected), (model, found) = (train(clips, tmp_path / name, precision=name) for name in ("float32", "bfloat16"))
    assert found.curve[0]["loss"] == pytest.approx(expected.curve[0]["loss"], abs=0.02)
    assert len(found.curve) == len(expected.curve) and found.curve != expected.curve
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())
