"""The past of an encoder: which audio it, its base and the clusters that it was taught with have heard.

An encoder's card says it in sentences (`heard`), and `heard.txt` beside it names every audio file by its content, so
that any later run, of the same corpus or of another, can tell whether its test speakers are among those heard.
"""

import hashlib
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


def describe_audio(what: str, digests: Iterable[str]) -> Past:
    """The past of what heard audio files, given by their SHA-256; a digest of these says which corpus it was."""
    lines = sorted({digest[:DIGITS] for digest in digests})
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


def find_hearing(encoders: dict[str, str], heard: dict[str, str], manifests: Iterable[str]) -> list[str]:
    """The ablations whose encoder has heard audio of these manifests, `.../{split}/shard-{shard}.csv`.

    Args:
        encoders: the encoder of each ablation
        heard: the `heard.txt` of each encoder
    """
    known = {f"split {Path(path).parent.name}" for path in manifests}
    known |= {row.sha256[:DIGITS] for path in manifests for row in manifest.read(path) if row.sha256}
    hearing = {name for name, path in heard.items() if known & _read_lines(path)}
    return [ablation for ablation, encoder in encoders.items() if encoder in hearing]


def _read_lines(path: str | Path) -> frozenset[str]:
    return frozenset(Path(path).read_text(encoding="utf-8").splitlines())
