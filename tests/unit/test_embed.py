"""Embedding a shard: order, rejects, and reuse of what has not changed."""

import itertools
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file
from test_hubert import TINY, make, reference

from ser.encoders import decoding, embed, reuse
from ser.files import DataError, read_json, sha256, write_json
from ser.formats import tfrecord
from ser.formats.csv_files import format_rows
from ser.formats.encoder_folder import DIGESTS
from ser.formats.manifest import Utterance

AUDIO = {"min_seconds": 0.2, "max_seconds": 60, "silence_db": -60}
OPTIONS = {
    "frames_layer": 2,
    "dtype": "float32",
    "device": "cpu",
    "threads": 2,
    "audio": AUDIO,
    "fingerprint": "code 1",
}


class Shard:
    """A shard of made-up audio in a folder, and runs of `embed_shard` over it."""

    def __init__(self, folder: Path, models):
        self.folder, self.models, self.speakers = folder, models, {}
        (folder / "audio").mkdir()

    def add(self, utterance_id, speaker, seed, seconds=0.5, level=0.1):
        wave = np.random.default_rng(seed).normal(0, 1, int(seconds * 16000)) * level
        soundfile.write(self.path(utterance_id), wave, 16000, subtype="FLOAT")
        self.speakers[utterance_id] = speaker

    def path(self, utterance_id):
        return self.folder / "audio" / f"{utterance_id.replace('/', '_')}.wav"

    def run(self, frames=True, reuse=True, **options):
        """Run, and return {utterance_id: (pooled record, frames record)} in the files' order."""
        rows = [
            (utterance_id, str(self.path(utterance_id)), speaker, sha256(self.path(utterance_id)))
            for utterance_id, speaker in sorted(self.speakers.items())
        ]
        (self.folder / "shard-007.csv").write_text(format_rows(Utterance._fields, rows), encoding="utf-8")
        paths = [self.folder / "pooled.tfrecord"] + [self.folder / "frames.tfrecord"] * frames
        for path in paths:
            path.unlink(missing_ok=True)  # as Snakemake does before a job
        embed.embed_shard(
            self.folder / "shard-007.csv",
            self.folder / "encoder",
            paths[0],
            paths[1] if frames else None,
            reuse_dir=self.folder / "reuse" if reuse else None,
            **OPTIONS | options,
        )
        files = [list(tfrecord.read(path)) for path in paths]
        return {records[0].utterance_id: records for records in zip(*files, strict=True)}

    def stash(self):
        return sorted(path.name for path in (self.folder / "reuse").iterdir())


@pytest.fixture
def shard(tmp_path):
    made = Shard(tmp_path, make(tmp_path / "encoder", **TINY))
    made.add("b/2 ü.wav", "speaker b", seed=1)
    made.add("a.wav", "speaker a", seed=2, seconds=1)
    made.add("c.wav", "speaker a", seed=3, seconds=0.7)
    return made


@pytest.fixture
def embedded(monkeypatch):
    """Counts forward passes, by number of samples."""
    from ser.encoders import engine

    seen, original = [], engine.Encoder.embed
    monkeypatch.setattr(
        engine.Encoder,
        "embed",
        lambda self, waves, *rest: seen.extend(map(len, waves)) or original(self, waves, *rest),
    )
    return seen


def equal(one, other):
    return list(one) == list(other) and all(
        np.array_equal(x.embedding, y.embedding)
        and (x.utterance_id, x.speaker_id, x.sha256, x.n_frames) == (y.utterance_id, y.speaker_id, y.sha256, y.n_frames)
        for key in one
        for x, y in zip(one[key], other[key], strict=True)
    )


def test_records_stand_in_the_manifest_s_order_and_hold_transformers_numbers(shard):
    got = shard.run()
    assert list(got) == ["a.wav", "b/2 ü.wav", "c.wav"]
    for utterance_id, (pooled, frames) in got.items():
        samples, _ = soundfile.read(shard.path(utterance_id), dtype="float32")
        expected = reference(*shard.models, samples)
        np.testing.assert_allclose(pooled.embedding, expected.mean(1), atol=1e-5)  # a tiny encoder's rounding
        np.testing.assert_allclose(frames.embedding, expected[2], atol=1e-5)
        assert pooled.n_frames == frames.n_frames == expected.shape[1]
        assert pooled.speaker_id == shard.speakers[utterance_id]
        assert pooled.sha256 == sha256(shard.path(utterance_id))


def test_half_precision_is_the_rounded_single_precision(shard):
    single, half = shard.run(reuse=False), shard.run(reuse=False, dtype="float16")
    for one, other in zip(single.values(), half.values(), strict=True):
        for record, rounded in zip(one, other, strict=True):
            assert rounded.embedding.dtype == np.float16
            np.testing.assert_array_equal(record.embedding.astype(np.float16), rounded.embedding)


def test_rejected_audio_has_no_record_and_a_line_in_the_log(shard, caplog):
    caplog.set_level(logging.INFO)
    shard.add("d silent.wav", "speaker b", seed=4, level=0)
    shard.add("0 short.wav", "speaker b", seed=5, seconds=0.1)
    assert list(shard.run()) == ["a.wav", "b/2 ü.wav", "c.wav"]
    assert "rejected d silent.wav" in caplog.text and "rejected 0 short.wav" in caplog.text
    assert "0 reused, 3 embedded, 2 rejected" in caplog.text


def test_a_shard_of_rejected_audio_alone_is_an_empty_file(shard):
    shard.speakers.clear()
    shard.add("silent.wav", "speaker b", seed=4, level=0)
    assert shard.run() == {}


def test_a_second_run_computes_nothing(shard, embedded):
    first = shard.run()
    assert len(embedded) == 3
    assert equal(first, shard.run()) and len(embedded) == 3


def test_a_run_that_reuses_all_does_not_import_torch(shard):
    shard.run()
    script = (
        "import sys; from ser.encoders import embed; from pathlib import Path; d = Path(sys.argv[1])\n"
        "embed.embed_shard(d/'shard-007.csv', d/'encoder', d/'again.tfrecord', d/'frames again.tfrecord', "
        f"reuse_dir=d/'reuse', **{OPTIONS!r})\nassert 'torch' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    library = Path(embed.__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(library), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", script, shard.folder], check=True, env=environment)
    assert (shard.folder / "again.tfrecord").read_bytes() == (shard.folder / "pooled.tfrecord").read_bytes()


def test_one_changed_file_costs_one_forward_pass(shard, embedded):
    shard.run()
    embedded.clear()
    shard.add("b/2 ü.wav", "speaker b", seed=9, seconds=0.8)
    got = shard.run()
    assert embedded == [12_800]
    assert equal(got, shard.run(reuse=False))


def test_added_removed_and_moved_utterances_need_only_the_new_ones(shard, embedded):
    shard.run()
    embedded.clear()
    shard.add("0 new.wav", "speaker c", seed=10, seconds=0.6)
    shard.add("z new.wav", "speaker c", seed=11, seconds=0.4)
    del shard.speakers["b/2 ü.wav"]
    shard.speakers["a.wav"] = "speaker renamed"
    got = shard.run()
    assert embedded == [9_600, 6_400]
    assert equal(got, shard.run(reuse=False)) and got["a.wav"][0].speaker_id == "speaker renamed"


def test_a_rejected_file_repaired_is_embedded(shard, embedded):
    shard.add("b/2 ü.wav", "speaker b", seed=4, level=0)
    assert "b/2 ü.wav" not in shard.run()
    embedded.clear()
    shard.add("b/2 ü.wav", "speaker b", seed=4)
    assert "b/2 ü.wav" in shard.run() and len(embedded) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"fingerprint": "code 2"},
        {"dtype": "float16"},
        {"frames_layer": 1},
        {"audio": AUDIO | {"silence_db": -50}},
        {"frames": False},
    ],
    ids=str,
)
def test_other_options_recompute_all_and_leave_one_stash(shard, embedded, options):
    shard.run()
    embedded.clear()
    before = set(shard.stash())
    assert equal(shard.run(**options), shard.run(reuse=False, **options)) and len(embedded) == 6
    after = set(shard.stash())
    assert len(after) == (1 if "frames" in options else 2) and not before & after


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_another_encoder_recomputes_all(shard, embedded, name):
    shard.run()
    embedded.clear()
    path = shard.folder / "encoder" / name
    text = path.read_text()
    old, new = {
        "config.json": ('"layer_norm_eps": 1e-05', '"layer_norm_eps": 0.001'),
        "preprocessor_config.json": ('"do_normalize": true', '"do_normalize": false'),
    }[name]
    assert old in text
    path.write_text(text.replace(old, new))
    card = shard.folder / "encoder" / "card.json"
    write_json(card, read_json(card) | {DIGESTS[name]: sha256(path)})
    shard.run()
    assert len(embedded) == 3


def change_weights(shard, name, change):
    """Other weights of the shard's encoder, with the card that belongs to them."""
    folder = shard.folder / "encoder"
    weights = load_file(folder / "model.safetensors")
    weights[name] = change(weights[name]).astype(np.float32)
    save_file(weights, folder / "model.safetensors")
    card = read_json(folder / "card.json") | {"weights_sha256": sha256(folder / "model.safetensors")}
    write_json(folder / "card.json", card)


def test_other_weights_recompute_all(shard, embedded):
    shard.run()
    embedded.clear()
    change_weights(shard, "encoder.layers.0.final_layer_norm.bias", lambda bias: bias + 1)
    shard.run()
    assert len(embedded) == 3


def test_another_shard_s_stash_stays(shard):
    shard.run()
    other = shard.folder / "reuse" / "shard-0071-key.pooled.tfrecord"
    other.write_bytes(b"")
    shard.run(fingerprint="code 2")
    assert other.exists() and len(shard.stash()) == 3


def test_the_stash_is_a_hard_link_and_a_rerun_does_not_write_into_it(shard):
    shard.run()
    (stash,) = (shard.folder / "reuse").glob("*.pooled.tfrecord")
    assert os.path.samefile(stash, shard.folder / "pooled.tfrecord")
    kept = stash.read_bytes()
    held = os.link(stash, shard.folder / "held")
    shard.add("b/2 ü.wav", "speaker b", seed=9)
    shard.run()
    assert held is None and (shard.folder / "held").read_bytes() == kept


def test_where_hard_links_do_not_reach_the_stash_is_a_copy(shard, embedded, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(embed.os, "link", refuse)
    first = shard.run()
    (stash,) = (shard.folder / "reuse").glob("*.pooled.tfrecord")
    assert not os.path.samefile(stash, shard.folder / "pooled.tfrecord")
    assert equal(first, shard.run()) and len(embedded) == 3


@pytest.mark.parametrize("kind", ["pooled", "frames"])
def test_a_damaged_stash_is_not_read_as_data(shard, embedded, caplog, kind):
    first = shard.run()
    (stash,) = (shard.folder / "reuse").glob(f"*.{kind}.tfrecord")
    content = bytearray(stash.read_bytes())
    content[len(content) // 2] ^= 1
    stash.write_bytes(content)
    assert equal(first, shard.run()) and len(embedded) == 6
    assert "nothing is reused" in caplog.text and f"{stash.name}: damaged at byte" in caplog.text
    assert equal(first, shard.run()) and len(embedded) == 6  # and the stash is whole again


def test_a_stash_of_two_ages_gives_what_both_files_hold(shard, embedded):
    """As a crash between the two links would leave it."""
    shard.run()
    (stash,) = (shard.folder / "reuse").glob("*.frames.tfrecord")
    older = stash.read_bytes()
    shard.add("b/3 new.wav", "speaker b", seed=12)
    second = shard.run()
    stash.unlink()
    stash.write_bytes(older)
    embedded.clear()
    assert equal(second, shard.run()) and len(embedded) == 1


def test_half_a_stash_is_not_used(shard, embedded):
    first = shard.run()
    (stash,) = (shard.folder / "reuse").glob("*.frames.tfrecord")
    stash.unlink()
    assert equal(first, shard.run()) and len(embedded) == 6


def test_numbers_too_large_for_half_precision_stop_the_job(shard):
    change_weights(shard, "encoder.layers.2.final_layer_norm.bias", lambda bias: bias + 1e5)
    with pytest.raises(DataError, match="utterance a.wav: .* 1e\\+05, too large for float16; set dtype: float32"):
        shard.run(dtype="float16")
    assert not (shard.folder / "pooled.tfrecord").exists() and not (shard.folder / "reuse").exists()
    assert len(shard.run(dtype="float32")) == 3


def test_numbers_that_are_not_finite_stop_the_job(shard):
    change_weights(shard, "encoder.layers.0.final_layer_norm.bias", lambda bias: bias * np.float32("nan"))
    with pytest.raises(DataError, match="utterance a.wav: its embedding is not finite"):
        shard.run()


@pytest.mark.parametrize("layer", [4, -5, None])
def test_a_frames_layer_that_is_not_there_stops_the_job(shard, layer):
    with pytest.raises(DataError, match=f"frames layer {layer}: .* has layers 0 to 3"):
        shard.run(frames_layer=layer)


def test_long_recordings_are_decoded_only_as_there_is_room(monkeypatch):
    """Whatever `ahead` is; and nothing waits for ever when the stream is closed early."""
    begun, taken = [], []

    def load(path, **options):
        begun.append(path)
        return np.full(10, int(path), np.float32), None

    monkeypatch.setattr(decoding, "HELD_SAMPLES", 25)
    monkeypatch.setattr(decoding.decode, "load", load)
    utterances = [Utterance(f"{number:03d}", str(number), "speaker", "0") for number in range(60)]
    stream = decoding.decode_ahead(utterances, {}, ahead=30, workers=4)
    for utterance, samples in itertools.islice(stream, 40):
        assert int(utterance.path) == samples[0] == len(taken)
        taken.append(utterance)
        time.sleep(0.002)
        assert len(begun) - len(taken) <= 3 + 4  # held, and at work on it
    stream.close()
    assert len(taken) == 40


def test_nothing_is_kept_taken_or_removed_through_a_link(shard, embedded, caplog):
    other = shard.folder / "other"
    other.mkdir()
    precious = other / f"shard-007-{'0' * 20}.pooled.tfrecord"
    precious.write_text("precious")
    (shard.folder / "reuse").symlink_to(other)
    for _ in range(2):
        shard.run()
    assert len(embedded) == 6 and "reuse is a link, or in one: nothing is kept there" in caplog.text
    reuse.forget(shard.folder / "reuse", "shard-007")
    assert [path.name for path in other.iterdir()] == [precious.name]


def test_what_others_put_beside_the_records_stays(shard, tmp_path):
    shard.run()
    notes = shard.folder / "reuse" / "shard-007-notes.tfrecord"
    notes.write_text("mine")
    reuse.forget(shard.folder / "reuse", "shard-007")
    assert shard.stash() == [notes.name]
