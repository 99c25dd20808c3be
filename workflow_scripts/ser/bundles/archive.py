"""The file that a bundle is: a zip archive whose every byte is accounted for, the same for the same parts.

Parts lie in it as they are, without compression; `manifest.json` has the size and the SHA-256 of each. The archive's
comment is the SHA-256 of all that is no part: headers, directory and the manifest. It tells damage from wholeness, not
who made it: a bundle is data for its reader (`runner/`), whatever it says.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ser.files import atomic

MANIFEST = "manifest.json"
FORMAT = 1
SEAL = b"sha256:%064d"  # the comment before it is known
_BLOCK = 1 << 20


def write_bundle(path: str | Path, manifest: dict, parts: dict[str, bytes]) -> None:
    """Write a bundle, atomically; `manifest` gets its `format` and the digests of the `parts`."""
    described = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in sorted(parts.items())
    }
    text = json.dumps({"format": FORMAT, **manifest, "parts": described}, ensure_ascii=False, indent=1, allow_nan=False)
    with atomic(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, data in [(MANIFEST, text.encode()), *sorted(parts.items())]:
                archive.writestr(zipfile.ZipInfo(name), data)  # dated 1980-01-01
            archive.comment = SEAL % 0
        with open(temporary, "r+b") as file:
            seal = compute_seal(file)
            file.seek(-len(seal), 2)
            file.write(seal)


def compute_seal(file) -> bytes:
    """The comment of an archive: a digest of its bytes but for the parts' and the comment's own."""
    with zipfile.ZipFile(file) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    digest, place = hashlib.sha256(), 0
    for entry in entries:
        file.seek(entry.header_offset + 26)
        lengths = file.read(4)
        begin = entry.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        if entry.filename == MANIFEST:
            continue
        for block in _read(file, place, begin):
            digest.update(block)
        place = begin + entry.file_size
    for block in _read(file, place, file.seek(0, 2) - len(SEAL % 0)):
        digest.update(block)
    return b"sha256:" + digest.hexdigest().encode()


def _read(file, begin: int, end: int) -> Iterator[bytes]:
    file.seek(begin)
    while begin < end and (block := file.read(min(_BLOCK, end - begin))):
        begin += len(block)
        yield block
