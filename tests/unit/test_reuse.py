"""Embeddings that are still right are not computed again; nothing else is taken for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_shard import AUDIO, OPTIONS, Shard, change_weights, equal
from test_hubert import TINY, make

from ser.encoders import embed, reuse
from ser.files import read_json, sha256, write_json
from ser.formats.encoder_folder import DIGESTS


@pytest.fixture
def shard(tmp_path):
    return Shard(tmp_path, make(tmp_path / "encoder", **TINY))


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
