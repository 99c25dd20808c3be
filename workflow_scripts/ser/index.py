"""The index: what the corpus is made of, as small files that change only when the content does.

Made once a run, by the main process, while the workflow is read. Everything after it depends on these files and never
on the audio folder or the sheet themselves, which would be too many inputs (audio) or one too many things (sheet).
"""

import hashlib
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ser.content import hash_files
from ser.corpus import Corpus, raise_problems, read_corpus
from ser.files import DataError, read_json, write_json
from ser.manifest import Utterance, format_rows, shard_of, write_if_changed

FOLDER = Path("results/manifests")
_INDEX = FOLDER / "index.json"


@dataclass(frozen=True)
class Index:
    """Digests of the content that rules depend on. `shards`: split -> shard -> digest of its manifest."""

    shards: dict[str, dict[str, str]]
    labels: dict[str, str]
    encoders: dict[str, str]

    @property
    def test_splits(self) -> list[str]:
        return sorted(set(self.shards) - {"train", "validation"})


def build(corpus_settings: dict, encoders: dict[str, dict]) -> Index:
    """Index the corpus and the encoder folders, and write manifests and label slices where their content changed."""
    corpus = read_corpus(corpus_settings)
    digests = hash_files((row.path for row in corpus.rows), FOLDER / "audio_digests.parquet", "audio")
    raise_problems(
        [f"{corpus.sheet}, row {row.line}: {row.path} is not on disk" for row in corpus.rows if row.path not in digests]
    )
    texts = _format_files(corpus, digests, corpus_settings)
    for path, text in texts.items():
        write_if_changed(path, text)
    for path in sorted(FOLDER.glob("*/*.csv")):
        if path not in texts:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    shards: dict[str, dict[str, str]] = defaultdict(dict)
    labels = {}
    for path, text in sorted(texts.items()):
        digest = hashlib.sha256(text.encode()).hexdigest()
        if path.name == "labels.csv":
            labels[path.parent.name] = digest
        else:
            shards[path.parent.name][path.stem.removeprefix("shard-")] = digest
    index = Index(dict(shards), labels, {name: _digest_encoder(name, spec) for name, spec in encoders.items()})
    described = {**vars(index), "left_out": dict(sorted(corpus.left_out.items()))}
    if not _INDEX.exists() or read_json(_INDEX) != described:
        write_json(_INDEX, described)
        _report(corpus, index)
    return index


def load() -> Index:
    """The index as the main process of this run wrote it (for jobs, which read the workflow again)."""
    described = read_json(_INDEX)
    described.pop("left_out")
    return Index(**described)


def _format_files(corpus: Corpus, digests: dict[str, str], settings: dict) -> dict[Path, str]:
    """The text of every manifest and label slice: `{path: CSV}`."""
    utterances: dict[tuple[str, str], list[tuple]] = defaultdict(list)
    labels: dict[str, list[tuple]] = defaultdict(list)
    shards: dict[str, str] = {}
    for row in corpus.rows:
        speaker = row.speaker_id
        if (shard := shards.get(speaker)) is None:
            shard = shards[speaker] = f"shard-{shard_of(speaker, settings['shards']):03d}.csv"
        utterances[row.split, shard].append((row.utterance_id, row.path, speaker, digests[row.path]))
        labels[row.split].append((row.utterance_id, speaker, *row.labels))  # a float in its shortest form, None as ""
    header = ("utterance_id", "speaker_id", *settings["targets"])
    return {
        FOLDER / split / shard: format_rows(Utterance._fields, rows) for (split, shard), rows in utterances.items()
    } | {FOLDER / split / "labels.csv": format_rows(header, rows) for split, rows in labels.items()}


def _digest_encoder(name: str, spec: dict) -> str:
    """A digest of the files of a local encoder folder; of a hub model, its name and revision."""
    folder = Path(spec["base"])
    if not folder.is_dir():
        return f"{spec['base']}@{spec['revision']}"
    files = sorted(str(path) for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    if not files:
        raise DataError(f"encoders.{name}.base: {folder} holds no config.json and no .safetensors file")
    digests = hash_files(files, FOLDER / f"encoder-{name}-digests.parquet", f"encoder {name}")
    listing = "".join(f"{Path(path).name} {digests[path]}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _report(corpus: Corpus, index: Index) -> None:
    for split in ("train", "validation", *index.test_splits):
        rows = [row for row in corpus.rows if row.split == split]
        speakers = len({row.speaker_id for row in rows})
        print(f"{corpus.sheet}: {split}: {len(rows)} utterances of {speakers} speakers", file=sys.stderr)
    for what, count in sorted(corpus.left_out.items()):
        print(f"{corpus.sheet}: {count} utterances with {what} left out", file=sys.stderr)
