"""HuBERT's masked prediction, with and without speakers, against independent calculations."""

import math

import numpy as np
import pytest
import torch
from made_encoder import SHAPE as SMALL
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor
from transformers.models.hubert.modeling_hubert import _compute_mask_indices

from ser.adaptation.masked_prediction import POSITIONS, MaskedPrediction, draw_spans
from ser.encoders import pretrained
from ser.encoders.engine import Encoder
from ser.encoders.past import Past
from ser.files import DataError

PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
SHAPES = pytest.mark.parametrize("shape", [SMALL, SMALL | PRE_NORM], ids=["base", "large"])
CLUSTERS, SPEAKERS, BATCH, SAMPLES = 7, 3, 4, 16_000
FRAMES = (SAMPLES - 400) // 320 + 1


def make(shape=SMALL, speakers=0, position="last"):
    torch.manual_seed(0)
    return MaskedPrediction(HubertModel(HubertConfig(**shape)), CLUSTERS, speakers, position, code_width=8).eval()


def make_batch():
    rng = np.random.default_rng(1)
    return {
        "waves": torch.from_numpy(rng.standard_normal((BATCH, SAMPLES)).astype(np.float32)),
        "mask": torch.from_numpy(np.stack([draw_spans(FRAMES, 0.08, 10, rng) for _ in range(BATCH)])),
        "labels": torch.from_numpy(rng.integers(0, CLUSTERS, (BATCH, FRAMES))),
    }


@SHAPES
def test_without_a_mask_the_output_is_that_of_transformers(shape):
    model, waves = make(shape), make_batch()["waves"]
    with torch.no_grad():
        torch.testing.assert_close(model.outputs(waves), model.hubert(waves).last_hidden_state, rtol=0, atol=1e-5)


@SHAPES
def test_a_mask_is_that_of_transformers(shape):
    model, batch = make(shape), make_batch()
    with torch.no_grad():
        expected = model.hubert(batch["waves"], mask_time_indices=batch["mask"]).last_hidden_state
        torch.testing.assert_close(model.outputs(batch["waves"], batch["mask"]), expected, rtol=0, atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_cosines_on_masked_frames_alone():
    model, batch = make(), make_batch()
    with torch.no_grad():
        loss, right = model(**batch)
        outputs = model.hubert(batch["waves"], mask_time_indices=batch["mask"]).last_hidden_state.double().numpy()
        weight, bias = (p.double().numpy() for p in (model.projection.weight, model.projection.bias))
        codes = model.codes.double().numpy()
    total, count, hits = 0.0, 0, 0
    for b, t in zip(*np.nonzero(batch["mask"].numpy()), strict=True):
        x = weight @ outputs[b, t] + bias
        scores = [float(x @ c / np.linalg.norm(x) / np.linalg.norm(c)) / 0.1 for c in codes]
        label = int(batch["labels"][b, t])
        total -= scores[label] - math.log(sum(math.exp(s) for s in scores))
        hits += int(np.argmax(scores)) == label
        count += 1
    assert float(loss) == pytest.approx(total / count, abs=1e-4)  # float32 network, cosines divided by 0.1
    assert int(right) == hits
    other = batch | {"labels": torch.where(batch["mask"], batch["labels"], (batch["labels"] + 1) % CLUSTERS)}
    assert torch.equal(model(**other)[0], model(**batch)[0])  # labels of frames that are not masked count for nothing


def test_the_penalty_is_the_mean_square_of_the_convolutions_output():
    """As fairseq's `features_pen`, with a weight of 10; the Transformer's gradient stays what it was."""
    batch, losses, gradients = make_batch(), [], []
    for penalty in (0, 10):
        model = make()
        model.feature_penalty = penalty
        loss, _ = model(**batch)
        loss.backward()
        losses.append(loss.item())
        front, layer = model.hubert.feature_extractor.conv_layers[0].conv.weight, model.hubert.encoder.layers[0]
        gradients.append((front.grad, layer.feed_forward.output_dense.weight.grad))
    features = model.hubert.feature_extractor(batch["waves"]).detach().double().numpy()
    assert losses[1] - losses[0] == pytest.approx(10 * np.mean(features**2), rel=1e-3)  # a float32 difference
    assert not torch.allclose(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])


def test_in_bfloat16_cosines_are_still_computed_in_float32():
    model, batch = make(), make_batch()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        loss, _ = model(**batch)
        x = model.projection(model.outputs(batch["waves"], batch["mask"])[batch["mask"]])
    with torch.no_grad():
        logits = torch.cosine_similarity(x.float()[:, None], model.codes, dim=-1) / 0.1
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"][batch["mask"]])
    assert x.dtype == torch.bfloat16 and float(loss) == pytest.approx(float(expected), abs=1e-5)


def share_of_hubert(n_frames, draws):
    np.random.seed(0)
    return np.mean([_compute_mask_indices((1, n_frames), 0.8, 10, min_masks=1).mean() for _ in range(draws)])


@pytest.mark.parametrize("n_frames", [50, 200, 780])
def test_spans_cover_the_share_that_huberts_do(n_frames):
    rng = np.random.default_rng(0)
    masks = [draw_spans(n_frames, 0.08, 10, rng) for _ in range(400)]
    # 400 draws each, of a share with a standard deviation of 0.06 or less: the difference has one of 0.004
    assert np.mean(masks) == pytest.approx(share_of_hubert(n_frames, 400), abs=0.015)


def test_spans_are_spans_and_never_none():
    rng = np.random.default_rng(0)
    for n_frames in (1, 5, 10, 11, 33):
        mask = draw_spans(n_frames, 0.08, 10, rng)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask, [0]])))
        assert mask.shape == (n_frames,) and mask.any()
        assert (edges[1::2] - edges[::2] >= min(10, n_frames)).all()


@SHAPES
@pytest.mark.parametrize("position", POSITIONS)
def test_gradients_reach_the_speakers_of_the_batch_in_every_position(shape, position):
    model = make(shape, SPEAKERS, position)
    loss, _ = model(**make_batch(), speakers=torch.tensor([[0], [2], [0], [2]]))
    loss.backward()
    reached = model.table.grad.abs().sum(1) > 0
    assert reached.tolist() == [True, False, True]


@SHAPES
@pytest.mark.parametrize("position", ["last", "first"])
def test_with_a_table_of_zeros_papt_is_tapt(shape, position):
    tapt, papt = make(shape), make(shape, SPEAKERS, position)
    papt.load_state_dict(tapt.state_dict(), strict=False)
    assert not papt.table.any()
    batch = make_batch()
    assert torch.equal(papt(**batch, speakers=torch.zeros(BATCH, 1, dtype=torch.int64))[0], tapt(**batch)[0])


def test_a_speaker_without_a_vector_has_the_mean_of_its_neighbours():
    model = make(SMALL, SPEAKERS)
    torch.nn.init.normal_(model.table)
    with torch.no_grad():
        own = model.speaker_vectors(torch.arange(SPEAKERS)[:, None])
        mean = model.speaker_vectors(torch.tensor([[0, 2]]))
    torch.testing.assert_close(mean[0], (own[0] + own[2]) / 2, rtol=0, atol=1e-6)


@SHAPES
@pytest.mark.parametrize("position", POSITIONS)
def test_embedding_adds_the_vector_where_pre_training_did(shape, position, tmp_path):
    """`engine.Encoder`, which makes the records, against the model that was trained; three lengths at once."""
    model = make(shape, SPEAKERS, position)
    torch.nn.init.normal_(model.table)
    pretrained.save(model.hubert, Wav2Vec2FeatureExtractor(do_normalize=False), tmp_path, Past(), position=position)
    rng = np.random.default_rng(2)
    waves = [rng.standard_normal(n).astype(np.float32) for n in (9000, 16_000, 7000)]
    with torch.no_grad():
        vectors = model.speaker_vectors(torch.arange(SPEAKERS)[:, None])
        if shape is not SMALL:  # records hold the last layer's output, before the final LayerNorm
            model.hubert.encoder.layer_norm = torch.nn.Identity()
        expected = [
            model.outputs(torch.from_numpy(w)[None], None, v[None])[0] for w, v in zip(waves, vectors, strict=True)
        ]
    got = Encoder(tmp_path, "cpu", 1).embed(waves, 2, [v.numpy() for v in vectors])
    for result, frames in zip(got, expected, strict=True):
        np.testing.assert_allclose(result.frames, frames.numpy(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(result.pooled[-1], frames.mean(0).numpy(), rtol=0, atol=1e-4)
        assert result.pooled.shape == (3, 32) and result.n_frames == len(frames)


def test_a_personalised_encoder_is_not_used_without_vectors(tmp_path):
    pretrained.save(make().hubert, Wav2Vec2FeatureExtractor(), tmp_path, Past(), position="last")
    with pytest.raises(DataError, match="personalised encoder"):
        Encoder(tmp_path, "cpu", 1).embed([np.zeros(1000, np.float32)])
