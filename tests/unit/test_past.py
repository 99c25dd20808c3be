"""What an encoder has heard, carried from card to card, and the test speakers that are recognised in it."""

import hashlib
import json

import pytest

from ser.encoders.past import NAME, Past, describe_audio, find_hearing, read_past
from ser.files import write_json
from ser.formats.csv_files import format_rows
from ser.formats.manifest import COLUMNS


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def store(folder, past, **card):
    past.write(folder)
    write_json(folder / "card.json", {"heard": list(past.told)} | card)
    return folder


def write_manifest(folder, split, files):
    path = folder / "manifests" / split / "shard-000.csv"
    path.parent.mkdir(parents=True)
    rows = [(name, f"elsewhere/{name}", "s", digest(name) if name else "") for name in files]
    path.write_text(format_rows(COLUMNS, rows))
    return str(path)


def test_a_past_comes_back_as_it_was_written(tmp_path):
    past = Past(("facebook/hubert-large-ll60k: unknown",)) + describe_audio("train", [digest("a"), digest("b")])
    assert read_past(store(tmp_path, past), "base") == past
    assert past.told[1].startswith("train: 2 audio files, ")
    assert (tmp_path / NAME).read_text().splitlines() == sorted([digest("a")[:16], digest("b")[:16]])


def test_the_order_of_files_is_no_other_corpus_and_another_file_is():
    a, b = digest("a"), digest("b")
    assert describe_audio("train", [a, b]) == describe_audio("train", [b, a, a])
    assert describe_audio("train", [a]).told != describe_audio("train", [b]).told


@pytest.mark.parametrize(
    ("card", "told"),
    [
        (None, ("hub/model: unknown",)),
        ({"weights": "pretrained"}, ("hub/model: unknown",)),
        ({"weights": "random-init"}, ()),
        ({"heard": ["train"]}, ("train: of an unknown corpus",)),  # as cards were before heard.txt
        (
            {"heard": ["train, test: 5 audio files, 12ab"]},
            ("train: of an unknown corpus", "test: of an unknown corpus"),
        ),
    ],
)
def test_what_is_not_known_is_said_to_be_unknown(tmp_path, card, told):
    if card is not None:
        (tmp_path / "card.json").write_text(json.dumps(card))
    past = read_past(tmp_path, "hub/model")
    assert past.told == told
    past.write(tmp_path)
    hears = find_hearing({"a": "e"}, {"e": str(tmp_path / NAME)}, [write_manifest(tmp_path, "test", ["x", ""])])
    assert hears == (["a"] if "test: of an unknown corpus" in told else [])


def test_test_audio_is_recognised_wherever_it_lies_and_whatever_its_split_was_called(tmp_path):
    heard = {}
    for name, files in {"apart": ["a", "b"], "one-of-them": ["a", "t2"], "nothing": []}.items():
        (tmp_path / name).mkdir()
        describe_audio("train", map(digest, files)).write(tmp_path / name)
        heard[name] = str(tmp_path / name / NAME)
    manifests = [
        write_manifest(tmp_path, split, files) for split, files in {"test": ["t1", "t2"], "other": [""]}.items()
    ]
    encoders = {"baseline": "apart", "row": "one-of-them", "again": "one-of-them", "random": "nothing"}
    assert find_hearing(encoders, heard, manifests) == ["row", "again"]
