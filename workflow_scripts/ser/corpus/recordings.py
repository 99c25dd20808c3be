"""Recordings without labels that a trained ablation is applied to: a folder, and who speaks in which file."""

import os
import posixpath
from pathlib import Path
from typing import NamedTuple

from ser.config.ablation import Ablation
from ser.config.calibration_methods import Method
from ser.config.speaker_vectors import SpeakerVectors, find_origin
from ser.corpus.cells import raise_problems, read_columns
from ser.corpus.paths import Folder
from ser.corpus.segments import name_part, parse_part
from ser.files import DataError
from ser.text import find_fault, shorten

# In the paths of results a set of recordings stands where a split does; no split's name has a dot.
PREFIX = "scored."


class Recording(NamedTuple):
    """A file of a set, or a part. The speaker is `set/name`: nobody whom the corpus, or another set, knows."""

    utterance_id: str
    path: str
    speaker_id: str
    start: float | None = None  # s; None where the file's own
    end: float | None = None


def check_sets(sets: dict[str, dict], ablations: dict[str, dict], methods: list[Method]) -> dict[str, dict]:
    """The sets (the `scored` section of the config) by the name of their split; a DataError names what cannot be."""
    applied = ["none", *(method.name for method in methods if _applies(method))]
    for name, settings in sets.items():
        for key, allowed in {"ablation": list(ablations), "calibration": applied}.items():
            if settings[key] not in allowed:
                raise DataError(
                    f"config: scored.{name}: {key} is {settings[key]!r}, expected one of {', '.join(allowed)}"
                )
    return {PREFIX + name: settings for name, settings in sets.items()}


def list_methods(
    settings: dict, ablation: Ablation, methods: list[Method], vectors: dict[str, SpeakerVectors]
) -> list[Method]:
    """The calibration methods that a set is calibrated with, beside the one that it asks for: those that do not enrol.

    A file of vectors that neither its ablation nor its own method reads need not know its speakers: the methods that
    compare those are left out.
    """
    asked = list_files(settings, ablation, methods, vectors)
    origins = {method.name: find_origin(method.similarity, vectors) for method in methods}
    known = {name for name, origin in origins.items() if origin.kind != "file" or origin.name in asked}
    return [method for method in methods if not method.enrolment and method.name in known]


def list_files(
    settings: dict, ablation: Ablation, methods: list[Method], vectors: dict[str, SpeakerVectors]
) -> set[str]:
    """The speaker vectors from files, by name, that a set's ablation and calibration read."""
    names = [method.similarity for method in methods if method.name == settings["calibration"]]
    names += [ablation.speaker] if ablation.reads_speakers else []
    origins = [find_origin(name, vectors) for name in names]
    return {origin.name for origin in origins if origin.kind == "file"}


def _applies(method: Method) -> bool:
    """Random neighbours are a control; enrolment leaves the enrolled utterances without a prediction."""
    return method.neighbours != "random" and not method.enrolment


def read_recordings(split: str, settings: dict) -> list[Recording]:
    """The files of a set, sorted: all that are in speakers' folders, or those that its sheet lists.

    Raises DataError for a set without files, and by file or row for what has no speaker, is listed twice or is outside
    the folder.
    """
    name, folder = split.removeprefix(PREFIX), settings["folder"]
    if not os.path.isdir(folder):
        raise DataError(f"config: scored.{name}.folder: {folder!r} is not a folder")
    if settings["sheet"]:
        keys = f"scored.{name}.folder and scored.{name}.sheet"
        found = _read_sheet(Path(folder, settings["sheet"]), folder, keys)
    else:
        found = [Recording(file, file, speaker) for file, speaker in _walk(folder).items()]
    if not found:
        raise DataError(f"config: scored.{name}: there is no file in the folders of {folder!r}")
    return sorted(
        each._replace(path=posixpath.join(folder, each.path), speaker_id=f"{name}/{each.speaker_id}") for each in found
    )


def _read_sheet(sheet: Path, folder: str, keys: str) -> list[Recording]:
    """The files of a sheet, or the parts of files, with their speakers; paths are relative to the folder."""
    files: dict[tuple, Recording] = {}
    audio, problems = Folder(folder), []
    cells = read_columns(sheet, ["file", "speaker"], keys, ["start", "end"])
    for line, *row in zip(cells.lines, *map(cells.take, ("file", "speaker", "start", "end")), strict=True):
        where, (file, speaker, *times) = f"{sheet}, row {line}", row
        try:
            name, part = audio.place(file), parse_part(*times)
        except ValueError as error:
            problems.append(f"{where}: file {error}")
            continue
        path = name if os.path.exists(os.path.join(folder, name)) else audio.find(name) or name
        if (path, part) in files:
            problems.append(f"{where}: file {file!r} is listed already")
        elif fault := find_fault(speaker):
            problems.append(f"{where}: speaker {shorten(speaker)} is not a speaker id: it {fault}")
        files.setdefault((path, part), Recording(name_part(name, part), path, speaker, *part))
    raise_problems(problems)
    return list(files.values())


def _leads_back(place: str, name: str) -> bool:
    """Whether a folder is a link to one that holds it: following it would never end."""
    target, own = os.path.realpath(os.path.join(place, name)), os.path.realpath(place)
    return os.path.commonpath([target, own]) == target


def _walk(folder: str) -> dict[str, str]:
    """The speaker of each file: the folder that it is in, or that its folder is in; hidden files are left out."""
    files: dict[str, str] = {}
    problems = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(place, name)]
        for name in names:
            path = Path(place, name).relative_to(folder)
            if name.startswith("."):
                continue
            if fault := find_fault(str(path)):
                problems.append(f"{folder}: the name {shorten(str(path))} {fault} (or is not UTF-8)")
            elif len(path.parts) == 1:
                problems.append(
                    f"{folder}: {name!r} lies in no speaker's folder; expected {folder}/SPEAKER/{name}, "
                    "or a sheet with file,speaker"
                )
            else:
                files[path.as_posix()] = path.parts[0]
    raise_problems(sorted(problems))
    return files
