"""What was set aside: counted by split and reason, and an error above the share that the config allows."""

import pyarrow as pa
import pytest

from ser.corpus.set_aside import check_share
from ser.files import DataError, read_json
from ser.formats.parquet import write_parquet


def write_utterances(path, **splits):
    """`splits`: name -> (good utterances, reasons of the others)."""
    rows = []
    for split, (good, reasons) in splits.items():
        rows += [
            {"utterance_id": f"{split}/{n}.wav", "split": split, "status": "ok", "reason": ""} for n in range(good)
        ]
        for number, reason in enumerate(reasons):
            rows.append(
                {"utterance_id": f"{split}/bad {number}.wav", "split": split, "status": "rejected", "reason": reason}
            )
    write_parquet(path, pa.Table.from_pylist(rows))
    return str(path)


REASONS = [
    "too short: 0.020 s, expected at least 0.1 s",
    "too short: 0.030 s, expected at least 0.1 s",
    "cannot be decoded: AIFF; convert it with: ffmpeg -i FILE NEW.wav",
    "cannot be decoded (libsndfile: what it says)",
    "channels cancel when averaged; keep one: ffmpeg -i FILE -af pan=mono|c0=c0 NEW.wav",
]


def test_each_split_and_reason_is_counted(tmp_path):
    path = write_utterances(tmp_path / "u.parquet", train=(95, REASONS), test=(3, []))
    lines = check_share(path, 0.05, tmp_path / "out.json")
    assert lines == [
        "Set aside of split train: 5 of 100 utterances (2 × too short, 1 × cannot be decoded: AIFF, "
        "1 × cannot be decoded, 1 × channels cancel when averaged)",
        "Each with its reason: results/metadata/rejected.csv",
    ]
    counts = read_json(tmp_path / "out.json")
    assert (counts["train"]["rejected"], counts["train"]["reasons"]["too short"], counts["test"]["rejected"]) == (
        5,
        2,
        0,
    )
    assert check_share(write_utterances(tmp_path / "v.parquet", train=(9, [])), 0, tmp_path / "out.json") == []


def test_more_than_the_share_is_an_error_with_both_ways_to_go_on(tmp_path):
    path = write_utterances(
        tmp_path / "u.parquet", train=(100, []), validation=(60, ["silent: below -80 dB"]), test=(6, REASONS)
    )
    with pytest.raises(DataError) as caught:
        check_share(path, 0.05, tmp_path / "out.json")
    message = str(caught.value)
    for text in (
        "more was set aside than the config allows (audio.max_rejected_share: 0.05)",
        "Set aside of split test: 5 of 11 utterances (2 × too short",
        "Set aside of split validation: 1 of 61 utterances (1 × silent)",
        "  test: test/bad 0.wav: too short: 0.020 s",
        "Mend or convert these files, or take their rows out of the sheet; or, ",
        "set audio.max_rejected_share to 0.46.",
    ):
        assert text in message
    assert "validation/bad" not in message and not (tmp_path / "out.json").exists()
    assert len(check_share(path, 0.46, tmp_path / "out.json")) == 3


def test_one_file_alone_does_not_stop(tmp_path):
    path = write_utterances(tmp_path / "u.parquet", test=(5, REASONS[:1]))
    assert check_share(path, 0.0, tmp_path / "out.json")
    with pytest.raises(DataError, match="to 0.29"):
        check_share(write_utterances(tmp_path / "u.parquet", test=(5, REASONS[:2])), 0.0, tmp_path / "out.json")
