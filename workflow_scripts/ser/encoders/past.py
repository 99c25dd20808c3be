"""The past of an encoder: which audio it, its base and the clusters that it was taught with have heard.

An encoder's card says it in sentences (`heard`), and `heard.txt` beside it names every audio file by its content, so
that any later run, of the same corpus or of another, can tell whether its test speakers are among those heard.
Of a part of a file it also says which part, in seconds: `a1b2... 1.5 3.25`, or `a1b2... 1.5 -` to the end.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ser.files import name_path, read_json, write_text
from ser.formats import manifest

NAME = "heard.txt"
DIGITS = 16  # of the SHA-256 of an audio file: two files of millions share them once in a million corpora


@dataclass(frozen=True)
class Past:
    """Sentences, the oldest first, and the lines of `heard.txt`.

    A line is the start of the SHA-256 of an audio file, or `split NAME` where a card names a split of a corpus of
    which the files are not known.
    """

    told: tuple[str, ...] = ()
    lines: frozenset[str] = frozenset()

    def __add__(self, later: "Past") -> "Past":
        return Past(tuple(dict.fromkeys(self.told + later.told)), self.lines | later.lines)

    def write(self, folder: Path) -> None:
        """Write `heard.txt`, sorted."""
        write_text(folder / NAME, "".join(f"{line}\n" for line in sorted(self.lines)))


def describe_audio(what: str, contents: Iterable[str]) -> Past:
    """The past of what heard audio (`Utterance.content`); a digest of all says which corpus it was."""
    lines = sorted({_shorten(content) for content in contents})
    corpus = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGITS]
    return Past((f"{what}: {len(lines)} audio files, {corpus}",), frozenset(lines))


def read_past(folder: Path, name: str) -> Past:
    """The past of the encoder in a folder; `name` is what it is called where nothing is known of it."""
    card = read_json(folder / "card.json") if (folder / "card.json").exists() else {}
    if card.get("weights") == "random-init":
        return Past()
    told = card.get("heard")
    if not isinstance(told, list):
        return Past((f"{name_path(name)}: unknown",))
    if (folder / NAME).exists():
        return Past(tuple(told), _read_lines(folder / NAME))
    splits = [split for sentence in told for split in sentence.split(":")[0].split(", ")]
    return Past(tuple(f"{split}: of an unknown corpus" for split in splits), frozenset(f"split {s}" for s in splits))


def tell_labels(card: dict | None) -> str | None:
    """What labels an encoder and those that it was made of have seen, as its card says; None where it says nothing."""
    said = card.get("trained_on") if isinstance(card, dict) else None
    if isinstance(said, dict) and isinstance(said.get("labels"), list):  # fine-tuned here: its own labels alone
        own = f"{', '.join(map(str, said['labels']))} of {said.get('utterances')} utterances ({said.get('split')})"
        said = "; ".join(filter(None, [tell_labels(card.get("origin")), own]))
    return str(said)[:400] if said else None


def find_hearing(encoders: dict[str, str], heard: dict[str, str], manifests: Iterable[str]) -> list[str]:
    """The ablations whose encoder has heard audio of these manifests, `.../{split}/shard-{shard}.csv`.

    Args:
        encoders: the encoder of each ablation
        heard: the `heard.txt` of each encoder
    """
    known = {f"split {Path(path).parent.name}" for path in manifests}
    known |= {_shorten(row.content) for path in manifests for row in manifest.read(path) if row.sha256}
    hearing = {name for name, path in heard.items() if _meet(known, _read_lines(path))}
    return [ablation for ablation, encoder in encoders.items() if encoder in hearing]


def _shorten(content: str) -> str:
    digest, *part = content.split(" ", 1)
    return " ".join([digest[:DIGITS], *part])


def _meet(known: set[str], heard: frozenset[str]) -> bool:
    """Whether two sets of lines have audio in common: a file, or parts of one that overlap."""
    if known & heard:
        return True
    mine, theirs = _list_parts(known), _list_parts(heard)
    return any(
        start < other_end and other_start < end
        for digest in mine.keys() & theirs.keys()
        for start, end in mine[digest]
        for other_start, other_end in theirs[digest]
    )


def _list_parts(lines: Iterable[str]) -> dict[str, list[tuple[float, float]]]:
    """The times that are heard of each file."""
    parts = defaultdict(list)
    for line in lines:
        if not line.startswith("split "):
            digest, *times = line.split(" ")
            try:
                start, end = (math.inf if time == "-" else float(time) for time in times)
            except ValueError:  # no times, or none that this program wrote: all of the file
                start, end = 0.0, math.inf
            parts[digest].append((start, end))
    return parts


def _read_lines(path: str | Path) -> frozenset[str]:
    return frozenset(Path(path).read_text(encoding="utf-8").splitlines())
