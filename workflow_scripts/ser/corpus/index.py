"""The index: what the corpus is made of, as small files that change only when the content does.

Made once a run, by the main process, while the workflow is read. Everything after it depends on these files and never
on the audio folder or the sheet themselves, which would be too many inputs (audio) or one too many things (sheet).
"""

import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ser.corpus.cells import raise_problems
from ser.corpus.file_hashes import are_as_remembered, find_files, hash_files
from ser.corpus.layouts import find_layout
from ser.corpus.recordings import PREFIX, read_recordings
from ser.corpus.repeats import find_repeats
from ser.corpus.segments import NONE
from ser.corpus.sheet import Corpus, read_corpus
from ser.files import DataError, is_linked, read_json, sha256, write_json
from ser.formats.csv_files import format_rows, read_rows
from ser.formats.encoder_folder import is_folder, list_files
from ser.formats.manifest import COLUMNS, PART_COLUMNS, format_time, shard_of, write_if_changed
from ser.statistics.enrolment import rank_utterances
from ser.text import clean

FOLDER = Path("results/manifests")
_INDEX = FOLDER / "index.json"
_DIGESTS = FOLDER / "audio_digests.parquet"
_UNCHANGED = FOLDER / "index_digests.json"  # by which an unchanged corpus is known
_LOCKS = Path(".snakemake/locks")
_AT_WORK = "another run is at work in this folder: wait for its end (if it was killed: snakemake --unlock)"
_WRITTEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/(shard-\d{3}|labels|enrolment_labels|groups)\.csv")  # below FOLDER


@dataclass(frozen=True)
class Index:
    """Digests of the content that rules depend on. `shards`: split -> shard -> digest of its manifest.

    `recordings` has the shards of those without labels: their features are made as a split's are, but they are none of
    the study's.
    """

    shards: dict[str, dict[str, str]]
    labels: dict[str, str]
    enrolment: dict[str, str]
    groups: dict[str, str]
    encoders: dict[str, str]
    recordings: dict[str, dict[str, str]]

    @property
    def test_splits(self) -> list[str]:
        return sorted(set(self.shards) - {"train", "validation"})


_KEYS = {field.name for field in fields(Index)}


def build(
    corpus_settings: dict,
    encoders: dict[str, dict],
    sets: dict[str, dict] | None = None,
    draws: int = 0,
    labelled: int = 0,
) -> Index:
    """Index the corpus, the encoder folders and recordings to be scored (settings by split).

    Writes manifests, label slices and the groups of speakers where their content changed, and nothing while another run
    is at work in this folder: those are its own. Removes nothing, since what reads the workflow need not run it: see
    `settle`. The labels of each speaker's first `labelled` utterances in each of the `draws` of enrolment are a slice
    of their own: those that labelled enrolment may see.
    """
    sets = sets or {}
    writable = not _is_locked()
    _refuse_link(FOLDER)
    recordings = {split: read_recordings(split, settings) for split, settings in sets.items()}
    digested = {name: _digest_encoder(name, spec, writable) for name, spec in encoders.items()}
    inputs = _digest_inputs([corpus_settings, sets, draws, labelled, digested, recordings], corpus_settings)
    before = _read_described()
    if before and _is_unchanged(before, inputs):
        for folder in {(FOLDER / name).parent for name in _list_written(before)}:
            _refuse_link(folder)
        return _make_index(before)
    corpus = read_corpus(corpus_settings)
    digests = _hash_audio(corpus, recordings, writable)
    problems, repeats = find_repeats(corpus.sheet, corpus.rows, digests)
    raise_problems(problems)
    corpus.warnings += repeats
    texts = _format_files(corpus, digests, corpus_settings) | _format_groups(corpus, corpus_settings["groups"])
    if labelled:
        texts |= _format_enrolment(corpus, corpus_settings["targets"], draws, labelled)
    for split, rows in recordings.items():
        texts |= _format_manifests([(split, row) for row in rows], digests, sets[split]["shards"])
    index = _digest_texts(texts, digested, sets)
    known = (before or {}).get("gone", {}) | _list_written(before or {})
    described = {
        **vars(index),
        "left_out": dict(sorted(corpus.left_out.items())),
        "warnings": corpus.warnings,
        "gone": {name: digest for name, digest in sorted(known.items()) if FOLDER / name not in texts},
    }
    if not writable:
        if before is None or _make_index(before) != index:
            print(f"{FOLDER}: stays as it is, since {_AT_WORK}", file=sys.stderr)
        return index
    for path, text in texts.items():
        _refuse_link(path.parent)
        write_if_changed(path, text)
    if before != described:
        write_json(_INDEX, described)
    if not corpus.mended:
        write_json(_UNCHANGED, _digest_state(described, inputs) | {"files": len(digests)})
    if _describe_result(before) != _describe_result(described):
        _report(corpus, index)
        for split, rows in recordings.items():
            speakers = len({row.speaker_id for row in rows})
            what = f"{len(rows)} recordings of {speakers} speakers"
            print(f"{clean(sets[split]['folder'])}: {split.removeprefix(PREFIX)}: {what}", file=sys.stderr)
    return index


def _digest_texts(texts: dict[Path, str], encoders: dict[str, str], sets: Collection[str]) -> Index:
    shards: dict[str, dict[str, str]] = defaultdict(dict)
    slices: dict[str, dict[str, str]] = {"labels.csv": {}, "enrolment_labels.csv": {}, "groups.csv": {}}
    for path, text in sorted(texts.items()):
        digest = hashlib.sha256(text.encode()).hexdigest()
        if path.name in slices:
            slices[path.name][path.parent.name] = digest
        else:
            shards[path.parent.name][path.stem.removeprefix("shard-")] = digest
    return Index(
        {split: found for split, found in shards.items() if split not in sets},
        *slices.values(),
        encoders,
        {split: shards[split] for split in sorted(sets)},
    )


def _digest_inputs(parts: list, corpus_settings: dict) -> str:
    """A digest of all that an index is made from, the audio aside: settings, the sheet's files, and the code."""
    library = sorted(Path(__file__).parents[1].rglob("*.py"))
    files = [[str(path), _sha256(path)] for path in (*find_layout(corpus_settings).sources, *library)]
    return hashlib.sha256(json.dumps([sys.version, files, *parts]).encode()).hexdigest()


def _digest_state(described: dict, inputs: str) -> dict[str, str]:
    """What an index was made from, the digests of audio that it knows, and what it says."""
    index = json.dumps(_describe_result(described), sort_keys=True)
    return {"inputs": inputs, "digests": _sha256(_DIGESTS), "index": hashlib.sha256(index.encode()).hexdigest()}


def _is_unchanged(before: dict, inputs: str) -> bool:
    """Whether an index would be made again from the same inputs and audio, and all that it wrote is still there."""
    try:
        known = read_json(_UNCHANGED)
        files = known.pop("files")
    except (FileNotFoundError, DataError, AttributeError, TypeError, KeyError):
        return False
    return (
        known == _digest_state(before, inputs)
        and all(_sha256(FOLDER / name) == digest for name, digest in _list_written(before).items())
        and are_as_remembered(_DIGESTS, files)
    )


def _sha256(path: Path) -> str:
    """The digest of a file, "" where there is none."""
    return sha256(path) if path.is_file() else ""


def _describe_result(described: dict | None) -> dict:
    """What of an index a user is told of."""
    return {key: value for key, value in (described or {}).items() if key != "gone"}


def settle(index: Index) -> None:
    """Remove what earlier indexes wrote and this one does not: for a run that is about to start its jobs.

    A file goes if an index listed it and it still has the content that was written; links stay, and what is behind
    them. Raises DataError where the files are no longer this index's: jobs read them.
    """
    described = _read_described()
    if described is None or _make_index(described) != index:
        raise DataError(f"{FOLDER}: is of another config or corpus than this run's: {_AT_WORK}; then start again")
    for name, digest in described["gone"].items():
        path = FOLDER / name
        if not is_linked(path, 2) and path.is_file() and sha256(path) == digest:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    if described["gone"]:
        write_json(_INDEX, described | {"gone": {}})


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise DataError(f"{folder}: is a link, and the index would write where it leads; delete the link")


def _is_locked() -> bool:
    """Whether Snakemake's lock says that another run is at work in this folder, or was when it was killed."""
    return any(_LOCKS.glob("*.lock"))


def _list_written(described: dict) -> dict[str, str]:
    """The files that an index lists, each with the digest of what it holds: `{path below FOLDER: SHA-256}`."""
    shards = (described.get("shards", {}) | described.get("recordings", {})).items()
    manifests = {f"{split}/shard-{name}.csv": digest for split, found in shards for name, digest in found.items()}
    keys = {"labels": "labels", "enrolment_labels": "enrolment", "groups": "groups"}
    slices = {name: described.get(key, {}) for name, key in keys.items()}
    return manifests | {
        f"{split}/{name}.csv": digest for name, each in slices.items() for split, digest in each.items()
    }


def _make_index(described: dict) -> Index:
    return Index(**{key: described[key] for key in _KEYS})


def _read_described() -> dict | None:
    """The index of the last run; None where there is none, or one that no index wrote."""
    try:
        described = read_json(_INDEX)
        names = [*_list_written(described), *described.setdefault("gone", {})]
        return described if set(described) >= _KEYS and all(map(_WRITTEN.fullmatch, names)) else None
    except (FileNotFoundError, DataError, AttributeError, TypeError):
        return None


def load() -> Index:
    """The index as the main process of this run wrote it (for jobs, which read the workflow again)."""
    described = _read_described()
    if described is None:
        raise DataError(f"{_INDEX}: is gone or damaged; run again")
    return _make_index(described)


def count_labelled(split: str) -> int:
    """How many utterances of a split the label sheet has, by the label slice that `build` wrote."""
    path = FOLDER / split / "labels.csv"
    return sum(1 for _ in read_rows(path)) if path.is_file() else 0


def _format_files(corpus: Corpus, digests: dict[str, str], settings: dict) -> dict[Path, str]:
    """The text of every manifest and label slice: `{path: CSV}`."""
    labels: dict[str, list[tuple]] = defaultdict(list)
    for row in corpus.rows:
        labels[row.split].append((row.utterance_id, row.speaker_id, *row.labels))  # a float as short as can be, None ""
    header = ("utterance_id", "speaker_id", *settings["targets"])
    utterances = [(row.split, row) for row in corpus.rows]
    return _format_manifests(utterances, digests, settings["shards"]) | {
        FOLDER / split / "labels.csv": format_rows(header, rows) for split, rows in labels.items()
    }


def _format_enrolment(corpus: Corpus, targets: list[str], draws: int, count: int) -> dict[Path, str]:
    """The text of the label slices for enrolment: `{path: CSV}`, one row per draw and utterance enrolled first."""
    rows: dict[str, list] = defaultdict(list)
    for row in corpus.rows:
        if row.split != "train":
            rows[row.split].append(row)
    texts = {}
    for split, found in rows.items():
        ids, speakers = [row.utterance_id for row in found], [row.speaker_id for row in found]
        cut = [
            (draw, row.utterance_id, row.speaker_id, *row.labels)
            for draw in range(draws)
            for row, rank in zip(found, rank_utterances(ids, speakers, draw), strict=True)
            if rank < count
        ]
        texts[FOLDER / split / "enrolment_labels.csv"] = format_rows(
            ("draw", "utterance_id", "speaker_id", *targets), cut
        )
    return texts


def _format_groups(corpus: Corpus, groups: list[str]) -> dict[Path, str]:
    """The text of the tables of speakers' groups: `{path: CSV}`; none without groups."""
    rows: dict[str, dict[str, tuple]] = defaultdict(dict)
    for row in corpus.rows if groups else ():
        rows[row.split][row.speaker_id] = (row.speaker_id, *corpus.groups[row.speaker_id])
    header = ("speaker_id", *groups)
    return {FOLDER / split / "groups.csv": format_rows(header, sorted(found.values())) for split, found in rows.items()}


def _format_manifests(utterances: list[tuple[str, Any]], digests: dict[str, str], n_shards: int) -> dict[Path, str]:
    """The text of the manifests of splits' rows: `{path: CSV}`. Those with parts of files alone say which parts."""
    shards: dict[str, str] = {}
    rows: dict[tuple[str, str], list] = defaultdict(list)
    for split, row in utterances:
        if (shard := shards.get(row.speaker_id)) is None:
            shard = shards[row.speaker_id] = f"shard-{shard_of(row.speaker_id, n_shards):03d}.csv"
        rows[split, shard].append(row)
    texts = {}
    for key, found in rows.items():
        columns, cells = COLUMNS, [(row.utterance_id, row.path, row.speaker_id, digests[row.path]) for row in found]
        if any((row.start, row.end) != NONE for row in found):
            times = [(format_time(row.start), format_time(row.end)) for row in found]
            columns, cells = PART_COLUMNS, [(*cell, *time) for cell, time in zip(cells, times, strict=True)]
        texts[FOLDER.joinpath(*key)] = format_rows(columns, cells)
    return texts


def _hash_audio(corpus: Corpus, recordings: dict[str, list], writable: bool) -> dict[str, str]:
    """The SHA-256 of each file. Raises DataError for rows of which no file is on disk."""
    others = [row for rows in recordings.values() for row in rows]
    files = find_files(row.path for row in (*corpus.rows, *others))
    problems = []
    if any(row.path not in files for row in corpus.rows):
        problems = corpus.mend_paths(files)
        files |= find_files(row.path for row in corpus.rows if row.path not in files)
    raise_problems(problems + [f"{row.path} is not on disk" for row in others if row.path not in files])
    return hash_files(files, _DIGESTS, "audio", writable)


def _digest_encoder(name: str, spec: dict, writable: bool) -> str:
    """A digest of the files of a local encoder folder; of a hub model, its name and revision."""
    try:
        if not is_folder(spec["base"]):
            return f"{spec['base']}@{spec['revision']}"
        files = list(map(str, list_files(Path(spec["base"]))))
    except DataError as error:
        where = spec.get("where", f"encoders.{name}.base")
        raise DataError(f"config: {where}: {error}") from None
    digests = hash_files(files, FOLDER / f"encoder-{name}-digests.parquet", f"encoder {name}", writable)
    listing = "".join(f"{Path(path).name} {digests[path]}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _report(corpus: Corpus, index: Index) -> None:
    for split in ("train", "validation", *index.test_splits):
        rows = [row for row in corpus.rows if row.split == split]
        speakers = len({row.speaker_id for row in rows})
        print(f"{clean(str(corpus.sheet))}: {split}: {len(rows)} utterances of {speakers} speakers", file=sys.stderr)
    for what, count in sorted(corpus.left_out.items()):
        print(clean(f"{corpus.sheet}: {count} utterances of {what} left out"), file=sys.stderr)
    for warning in corpus.warnings:
        print(clean(f"warning: {warning}"), file=sys.stderr)
