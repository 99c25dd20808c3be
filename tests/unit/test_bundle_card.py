"""The README.md of a bundle says what its scores rest on."""

import json
import re
import zipfile

import numpy as np
import pytest
from made_bundle import ABLATION, TARGETS

from ser.bundles.card import format_bundle_card
from ser.formats.parquet import read_parquet

CARD = {"weights": "pretrained", "family": "hubert"}


@pytest.fixture
def bundle(small_bundle):
    """The manifest, and the card's text."""
    with zipfile.ZipFile(small_bundle) as archive:
        return json.loads(archive.read("manifest.json")), archive.read("README.md").decode()


def test_it_says_what_the_scale_and_the_intervals_rest_on(bundle, small_bundle):
    _, text = bundle
    (path,) = small_bundle.parent.rglob("labels/train.parquet")
    rows = read_parquet(path).to_pylist()
    speakers = {row["speaker_id"] for row in rows}
    assert f"Made up.\n{len(rows)} labelled utterances of {len(speakers)} speakers:" in text
    for target in TARGETS:
        values = np.array([row[target] for row in rows])
        (found,) = re.findall(rf"^\| {target} \| ([\d.]+) \| ([\d.]+) \| (\S+) \| (\S+) \|$", text, re.M)
        expected = [values.mean(), values.std(), values.min(), values.max()]
        np.testing.assert_allclose(list(map(float, found)), expected, atol=0.006, rtol=1e-5)  # two digits, six
    assert "from 1 to 7" in text and "averaged: 1, 2\n" in text and "Intervals hold 80% of the labels" in text
    assert "calibration: mu_sigma" in text and "| mu_sigma | valence | 0." in text and "None." in text


def write(manifest, cards, **encoder):
    settings = {"ablation": ABLATION.to_dict() | {"finetune": FINETUNED}, "encoder": encoder}
    return format_bundle_card(manifest | {"settings": settings}, cards, [])


FINETUNED = {"method": "whole"}
OWN = {"labels": ["valence"], "utterances": 3, "split": "train"}


def test_it_names_the_seeds_that_learned_nothing(bundle):
    manifest, text = bundle
    assert "learned nothing" not in text
    cards = [CARD | {"learned": learned} for learned in (True, False)]
    assert "averaged: 1, 2\n- of these, learned nothing when the encoder was trained: 2\n" in write(manifest, cards)


def test_it_says_what_labels_the_encoder_has_seen_before(bundle):
    manifest, text = bundle
    assert "trained before" not in text
    assert "- trained before on: MSP, labels\n" in write(manifest, [CARD] * 2, trained_on="MSP, labels")
    tuned = CARD | {"trained_on": OWN, "origin": {"trained_on": OWN, "origin": None}}
    assert "- trained before on: valence of 3 utterances (train)\n" in write(manifest, [tuned] * 2)
