"""Paths as sheets have them, and the files that they mean."""

import difflib
import functools
import itertools
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator

from ser.text import find_fault, shorten

_MOST = 2_000_000  # files that are looked at
_COMPARED = 5_000  # of them, to find the nearest
_SUFFIX = re.compile(r"\.(wav|flac|ogg|oga|opus|mp3|m4a|mp4|aac|webm|amr|wma|aiff?|au|caf|sph|3gp)", re.I)


class Folder:
    """A folder of audio files. Paths are relative to it, with slashes."""

    def __init__(self, folder: str):
        self.path, self._prefix = folder, posixpath.join(folder, "")
        self.name = os.path.basename(os.path.abspath(folder))
        self.roots = {os.path.abspath(folder), os.path.realpath(folder)}

    def place(self, cell: str) -> str:
        """The path that a cell of a sheet is, be it relative or in full.

        Raises ValueError, with what is wrong, for what is no path inside the folder.
        """
        if cell and (fault := find_fault(cell)):
            raise ValueError(f"{shorten(cell)} is not a path inside the audio folder: it {fault}")
        path = posixpath.normpath(cell)
        if path.startswith("/"):
            path = min((posixpath.relpath(path, root) for root in self.roots), key=len)
        if not cell or path.split("/")[0] == "..":
            raise ValueError(f"{cell!r} is not a path inside the audio folder")
        return path

    def join(self, path: str) -> str:
        return self._prefix + path

    def relate(self, place: str) -> str:
        """What `join` was given."""
        return place.removeprefix(self._prefix)

    def find(self, path: str) -> str | None:
        """The one file that a path means which is not on disk as it is written; None if there is none, or several.

        It may differ in its slashes, in case, in its form of Unicode, lack its suffix, or begin with the folder's name.
        """
        found = self._match(path)
        return found[0] if len(found) == 1 else None

    def explain(self, path: str) -> str:
        """What is known of a path that is no file: those that it may mean, or the nearest one."""
        if not self._files:
            return f"; there is no file in {self.path}"
        if found := self._match(path):
            return f"; it may be {' or '.join(map(repr, found[:3]))}"
        folder = posixpath.dirname(path)
        beside = [each for each in self._files if posixpath.dirname(each) == folder]
        named = {_fold(each): each for each in itertools.islice(beside or self._files, _COMPARED)}
        close = difflib.get_close_matches(_fold(path), named, 1)
        return f"; the nearest is {named[close[0]]!r}" if close else ""

    def _match(self, path: str) -> list[str]:
        found: dict[str, None] = {}
        for each in self._spell(path):
            found |= dict.fromkeys(self._whole.get(_fold(each)) or self._bare.get(_fold(each), ()))
        return [each for each in found if os.path.isfile(self.join(each))]

    def _spell(self, path: str) -> Iterator[str]:
        """The path with slashes; and, each time that the folder's name stands in it, what follows."""
        path = posixpath.normpath(path.replace("\\", "/"))
        yield path
        parts = path.split("/")
        yield from ("/".join(parts[place + 1 :]) for place, part in enumerate(parts[:-1]) if part == self.name)

    @functools.cached_property
    def _files(self) -> list[str]:
        """All, hidden ones left out, in order."""
        found = (
            posixpath.join(place[len(self.path) :].strip("/"), name)
            for place, _, names in os.walk(self.path, followlinks=True)
            for name in names
            if not name.startswith(".")
        )
        return sorted(itertools.islice(found, _MOST))

    @functools.cached_property
    def _whole(self) -> dict[str, list[str]]:
        named = defaultdict(list)
        for path in self._files:
            named[_fold(path)].append(path)
        return named

    @functools.cached_property
    def _bare(self) -> dict[str, list[str]]:
        """Audio files by their paths without suffixes."""
        named = defaultdict(list)
        for path in self._files:
            stem, suffix = posixpath.splitext(path)
            if _SUFFIX.fullmatch(suffix):
                named[_fold(stem)].append(path)
        return named


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
