"""A bundle that was damaged, cut or made up is an error that says so, never a number."""

import hashlib
import json
import zipfile

import numpy as np
import pytest

from ser.bundles.archive import SEAL, compute_seal, write_bundle
from ser_score.archive import Archive
from ser_score.bundle import read_bundle
from ser_score.errors import BundleError

FLIPS = 100


@pytest.fixture
def path(small_bundle):
    return small_bundle


@pytest.fixture
def content(path):
    """The manifest, and the parts."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(parts.pop("manifest.json")), parts


def test_a_whole_bundle_is_read(path):
    bundle = read_bundle(path)
    assert (bundle.name, bundle.targets, bundle.seeds) == ("small", ["valence", "arousal"], [1, 2])
    assert [method.name for method in bundle.enrolling] == ["enrol_1", "enrol_5", "labels_5", "enrol_10"]


def test_a_bundle_depends_on_its_parts_alone(content, tmp_path):
    manifest, parts = content
    for name in ("one.zip", "other.zip"):
        write_bundle(tmp_path / name, manifest, parts)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def test_nobody_is_named(content):
    """Neither speakers nor their utterances; files of the study are named as what the manifest was made of."""
    manifest, parts = content
    del manifest["provenance"]["made_of"]
    for text in (json.dumps(manifest), *(data.decode("latin-1") for data in parts.values())):
        assert not any(name in text for name in ("train 0", "validation 0", "test 0", "speakers.json"))


def test_flipped_bytes_are_errors(path, tmp_path):
    """Each byte is a part's, whose digest the manifest has, or the manifest's and the archive's, which the seal has."""
    whole, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    places = [*rng.integers(0, len(whole), FLIPS // 2), *rng.integers(len(whole) - 20_000, len(whole), FLIPS // 2)]
    damaged = tmp_path / "damaged.zip"
    for place in [*map(int, places), 0, 10, len(whole) - 1, len(whole) - 80]:
        changed = whole.copy()
        changed[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(changed)
        with pytest.raises(BundleError, match=r"damaged\.zip"):
            read_bundle(damaged)


def test_cut_files_are_errors(path, tmp_path):
    whole, cut = path.read_bytes(), tmp_path / "cut.zip"
    for length in (0, 1, 22, 100, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(BundleError, match=r"cut\.zip: (is no bundle|is damaged|its|has)"):
            read_bundle(cut)
    cut.write_bytes(whole + b"more")
    with pytest.raises(BundleError):
        read_bundle(cut)
    cut.write_bytes(b"more" + whole)
    with pytest.raises(BundleError):
        read_bundle(cut)


def test_a_damaged_part_is_named(path, content, tmp_path):
    whole, part = path.read_bytes(), content[1]["heads/seed-2.onnx"]
    place = whole.index(part) + len(part) // 2
    (tmp_path / "b.zip").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(BundleError, match=r"its part heads/seed-2\.onnx is damaged"):
        read_bundle(tmp_path / "b.zip")


def test_a_newer_format_says_so(content, tmp_path):
    manifest, parts = content
    write_bundle(tmp_path / "b.zip", manifest | {"format": 2}, parts)
    with pytest.raises(BundleError, match="format 2, newer than this version of ser-score understands"):
        read_bundle(tmp_path / "b.zip")


def test_packed_parts_are_refused_unread(path, tmp_path):
    """A part of a kilobyte could be a thousand times as large."""
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("manifest.json", "{}" + " " * 10_000_000)
    with pytest.raises(BundleError, match="is packed, hidden or there twice"):
        Archive(tmp_path / "b.zip")


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../b", ".hidden", "a\\b", "a/b/c/d/e"])
def test_names_of_elsewhere_are_refused(tmp_path, name):
    write_bundle(tmp_path / "b.zip", {}, {name: b"x"})
    with pytest.raises(BundleError, match="as in no bundle"):
        Archive(tmp_path / "b.zip")


def change(manifest, where, value):
    """A copy of a manifest with another value at `a.b.0.c`."""
    changed = json.loads(json.dumps(manifest))
    *path, last = [int(key) if key.isdigit() else key for key in where.split(".")]
    place = changed
    for key in path:
        place = place[key]
    place[last] = value
    return changed


WRONG = {
    "targets": [[], ["a", "b", "c"], "valence", [1, 2], ["=x", "y"]],
    "seeds": [[], [1], [1, 2, 3], [1, 1], ["1", "2"], None],
    "label_range": [[1], [1, "7"], [1, float("1e300")], None],
    "coverage": [2, "0.8", None],
    "audio": [{}, {"min_seconds": -1, "max_seconds": 1, "silence_db": 0}, []],
    "head.reads": ["everything", None, 1.5, 3, -4, "frames"],
    "head.speaker": ["xvector"],
    "encoders": [{}, [], {"encoder-1": {}}],
    "encoders.encoder-1.first": [None, {}],
    "encoders.encoder-1.first.kernel.shape": [[16, 9], [-16, -10], [1 << 40, 1], [160], "x", [True, 160]],
    "encoders.encoder-1.front": ["encoder-1/body.onnx", "absent", 3, None],
    "encoders.encoder-1.dtype": ["object", "float64"],
    "encoders.encoder-1.vector": [True],
    "encoders.encoder-1.stride": [0, 1 << 40, "5"],
    "encoder_of_seed": [["encoder-1"], ["encoder-1", "encoder-9"], None],
    "references.similarity": ["encoder", "mfcc", "face"],
    "references.vectors.shape": [[2, 60, 11], [60, 2, 12], [1, 120, 12]],
    "references.statistics.shape": [[60, 2], [240]],
    "references.counts.part": ["references/statistics.f8", "README.md", "manifest.json"],
    "references": [None, {}],
    "calibrations": [[], None, [{}]],
    "calibrations.0.half_widths": [[], [1], [1, "x"], [-1, 1]],
    "calibrations.1.points": [[], [[]], [[{"k": 0}]]],
    "calibrations.1.points.0.0.k": [0, 61, 1.5, None, True],
    "calibrations.1.points.0.0.alpha": [7, "x"],
    "calibrations.1.shift": ["up", None],
    "calibration": ["absent", None],
    "placement": [{}],
    "training": [{}, None],
    "training.audio.level_db": [[1], None, ["x", 2]],
    "training.audio.treble_weights": [[1, 2], "x"],
}


@pytest.mark.parametrize("where", WRONG)
def test_manifests_that_contradict_their_parts_are_errors(content, tmp_path, where):
    """With digests and a seal that are right: what a stranger's program would write."""
    manifest, parts = content
    for value in WRONG[where]:
        write_bundle(tmp_path / "b.zip", change(manifest, where, value), parts)
        with pytest.raises(BundleError, match=r"b\.zip: "):
            read_bundle(tmp_path / "b.zip")


def test_numbers_that_are_none_are_errors(content, tmp_path):
    manifest, parts = content
    values = np.frombuffer(parts["references/vectors.f8"]).copy()
    values[7] = np.nan
    write_bundle(tmp_path / "b.zip", manifest, parts | {"references/vectors.f8": values.tobytes()})
    with pytest.raises(BundleError, match=r"references/vectors\.f8 has numbers that are not finite"):
        read_bundle(tmp_path / "b.zip")


def test_the_seal_is_of_all_that_is_no_part(path, content):
    """Written out again: the file without the parts' bytes and the seal."""
    whole, rest, place = path.read_bytes(), b"", 0
    for _, data in sorted(content[1].items()):
        start = whole.index(data, place)
        rest, place = rest + whole[place:start], start + len(data)
    rest += whole[place : -len(SEAL % 0)]
    expected = b"sha256:" + hashlib.sha256(rest).hexdigest().encode()
    assert whole[-len(expected) :] == expected
    with open(path, "rb") as file:
        assert compute_seal(file) == expected
