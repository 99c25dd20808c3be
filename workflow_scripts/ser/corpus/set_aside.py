"""How much audio was set aside: counted for each split, said, and an error where it is more than the config allows."""

import re
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from ser.files import DataError, write_json
from ser.formats.parquet import read_parquet

_LISTED = 5  # files of a split that are named


def count_rejected(utterances: str) -> dict[str, dict]:
    """Of each split the utterances, how many were set aside, how many for which reason, and the first of them."""
    table = read_parquet(utterances, columns=["utterance_id", "split", "status", "reason"])
    counts = {}
    for split in sorted(pc.unique(table["split"]).to_pylist()):
        every = table.filter(pc.equal(table["split"], split))
        rejected = every.filter(pc.equal(every["status"], "rejected"))
        counts[split] = {
            "utterances": len(every),
            "rejected": len(rejected),
            "reasons": dict(Counter(_shorten(reason) for reason in rejected["reason"].to_pylist()).most_common()),
            "first": _list_first(rejected),
        }
    return counts


def check_share(utterances: str, most: float, path: str) -> list[str]:
    """Write the counts (JSON), and return what a user should read of them: nothing where nothing was set aside.

    Raises DataError where more than `most`, a share, of a split was. One file alone is no reason to stop.
    """
    counts = count_rejected(utterances)
    lines = [_describe(split, count) for split, count in counts.items() if count["rejected"]]
    over = {split: count for split, count in counts.items() if count["rejected"] > max(1, most * count["utterances"])}
    if over:
        highest = max(count["rejected"] / count["utterances"] for count in over.values())
        message = [
            f"audio: more was set aside than the config allows (audio.max_rejected_share: {most:g})",
            *lines,
            "The first of them, and all in results/metadata/rejected.csv:",
            *(f"  {line}" for count in over.values() for line in count["first"]),
            "Mend or convert these files, or take their rows out of the sheet; or, if the study is sound without them, "
            f"set audio.max_rejected_share to {_raise(highest)}.",
        ]
        raise DataError("\n".join(message))
    write_json(path, counts)
    return [*lines, "Each with its reason: results/metadata/rejected.csv"] if lines else []


def _describe(split: str, count: dict) -> str:
    reasons = ", ".join(f"{number} × {reason}" for reason, number in count["reasons"].items())
    return f"Set aside of split {split}: {count['rejected']} of {count['utterances']} utterances ({reasons})"


def _shorten(reason: str) -> str:
    """A reason without what differs from file to file, and what to do."""
    return re.split(r" \(|; " if reason.startswith("cannot") else "[:;]", reason)[0]


def _list_first(rejected: pa.Table) -> list[str]:
    rows = rejected.slice(0, _LISTED).to_pylist()
    return [f"{row['split']}: {row['utterance_id']}: {row['reason']}" for row in rows]


def _raise(share: float) -> float:
    """A share that allows what there is, in whole hundredths."""
    return min(1.0, int(share * 100 + 1) / 100)
