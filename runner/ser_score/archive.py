"""A bundle's file: a zip archive that is taken at nobody's word.

Nothing of it is unpacked or run. Its parts lie in it as they are; every byte is accounted for, by the digests in the
manifest or by the seal, the archive's comment. What is read has limits.
"""

import hashlib
import json
import re
import zipfile
from pathlib import Path

import numpy as np

from ser_score.errors import BundleError

FORMAT = 1  # of bundles that are understood
MANIFEST = "manifest.json"
MOST_MANIFEST, MOST_PARTS, MOST_BYTES = 10_000_000, 1000, 1 << 34
MOST_ARRAY = 1 << 29  # bytes of an array
_SEAL = re.compile(rb"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*){0,3}")
_BLOCK = 1 << 20


class Archive:
    """An open bundle; `manifest` is checked JSON, `read` gives a part whose digest is right.

    Raises BundleError for a file that is no bundle, is damaged, or is of a newer format.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self._file = open(self.path, "rb")  # noqa: SIM115 - kept as long as parts are read
            self._zip = zipfile.ZipFile(self._file)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror})") from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError, RecursionError) as error:
            raise BundleError(f"{path}: is no bundle, or is cut off or damaged ({error})") from None
        self._places = self._check_places()
        self.manifest = self._read_manifest()
        self.parts = self.manifest["parts"]
        self._check_parts()
        self._check_seal()

    def close(self) -> None:
        self._zip.close()
        self._file.close()

    def read(self, name: str) -> bytes:
        """The bytes of a part; a BundleError names one that is not there, or is damaged."""
        if name not in self.parts:
            raise BundleError(f"{self.path}: has no part {name!r}")
        begin, end = self._places[name]
        self._file.seek(begin)
        data = self._file.read(end - begin)
        if hashlib.sha256(data).hexdigest() != self.parts[name]["sha256"]:
            raise BundleError(f"{self.path}: its part {name} is damaged (does not match its SHA-256)")
        return data

    def check(self) -> None:
        """Read every part, so that damage to any is found."""
        for name in self.parts:
            self.read(name)

    def read_array(self, described) -> np.ndarray:
        """An array of plain little-endian numbers, by what the manifest says of it: `part` and `shape`."""
        if not isinstance(described, dict) or not isinstance(described.get("part"), str):
            raise BundleError(f"{self.path}: its manifest names no part where it should name an array")
        name, shape = described["part"], described.get("shape")
        kind = name.rpartition(".")[2]
        fits = isinstance(shape, list) and all(type(size) is int and 0 < size < 1 << 31 for size in shape)
        if kind not in ("f4", "f8") or not fits or not 1 <= len(shape) <= 3:
            raise BundleError(f"{self.path}: its part {name} has no shape that an array can have")
        size = int(np.prod(shape, dtype=object)) * int(kind[1])
        if size > MOST_ARRAY or self.parts.get(name, {}).get("bytes") != size:
            raise BundleError(f"{self.path}: its part {name} is not of the shape {shape}")
        array = np.frombuffer(self.read(name), f"<{kind}").reshape(shape)
        if not np.isfinite(array).all():
            raise BundleError(f"{self.path}: its part {name} has numbers that are not finite")
        return array

    def _fail(self, what: str) -> BundleError:
        return BundleError(f"{self.path}: {what}")

    def _check_places(self) -> dict[str, tuple[int, int]]:
        """Where the data of each entry lies, `(begin, end)`: entries follow each other without a gap."""
        entries = sorted(self._zip.infolist(), key=lambda entry: entry.header_offset)
        if len(entries) > MOST_PARTS or sum(entry.file_size for entry in entries) > MOST_BYTES:
            raise self._fail(f"has more than {MOST_PARTS} parts, or more than {MOST_BYTES >> 30} GB")
        places, place = {}, 0
        for entry in entries:
            name = entry.filename
            plain = entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
            if not plain or entry.flag_bits or not _NAME.fullmatch(name) or name in places:
                raise self._fail(f"its entry {name[:100]!r} is packed, hidden or there twice, as in no bundle")
            self._file.seek(entry.header_offset)
            header = self._file.read(30)
            if entry.header_offset != place or header[:4] != b"PK\3\4":
                raise self._fail("its entries do not lie as they do in a bundle; it is damaged")
            begin = place + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            place = begin + entry.file_size
            places[name] = begin, place
        return places

    def _read_manifest(self) -> dict:
        begin, end = self._places.get(MANIFEST, (0, 0))
        if not 0 < end - begin <= MOST_MANIFEST:
            raise self._fail(f"has no {MANIFEST}, or a huge one: is no bundle")
        self._file.seek(begin)
        try:
            manifest = json.loads(self._file.read(end - begin).decode())
        except (ValueError, RecursionError) as error:
            raise self._fail(f"its {MANIFEST} is damaged ({str(error)[:100]})") from None
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if type(found) is int and found > FORMAT:
            raise self._fail(
                f"is a bundle of format {found}, newer than this version of ser-score understands ({FORMAT}); update it"
            )
        if found != FORMAT or not isinstance(manifest.get("parts"), dict):
            raise self._fail(f"its {MANIFEST} is not that of a bundle")
        return manifest

    def _check_parts(self) -> None:
        if set(self.parts) | {MANIFEST} != set(self._places):
            odd = sorted((set(self.parts) | {MANIFEST}) ^ set(self._places))
            raise self._fail(f"its parts are not those that its manifest lists ({odd[0][:100]!r})")
        for name, known in self.parts.items():
            begin, end = self._places[name]
            if not isinstance(known, dict) or known.get("bytes") != end - begin or "sha256" not in known:
                raise self._fail(f"its part {name} is not of the size that its manifest says")

    def _check_seal(self) -> None:
        """The SHA-256 of all bytes that are no part's is the archive's comment, the last bytes of the file."""
        seal, digest, place = self._zip.comment, hashlib.sha256(), 0
        length = self._file.seek(0, 2)
        for name, (begin, end) in sorted(self._places.items(), key=lambda item: item[1]):
            if name != MANIFEST:
                self._update(digest, place, begin)
                place = end
        self._update(digest, place, length - len(seal))
        self._file.seek(length - len(seal))
        if not _SEAL.fullmatch(seal) or self._file.read() != seal or seal[7:].decode() != digest.hexdigest():
            raise self._fail("is damaged, or was changed after it was made (does not match its seal)")

    def _update(self, digest, begin: int, end: int) -> None:
        self._file.seek(begin)
        while begin < end and (block := self._file.read(min(_BLOCK, end - begin))):
            digest.update(block)
            begin += len(block)
