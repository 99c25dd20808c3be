"""What a file is, by its first bytes: only what the documents name reaches a decoder, whatever the file is called."""

import io
import os
import re

FORMATS = ("WAV", "FLAC", "OGG", "MP3", "MP4", "WEBM", "AMR", "WMA", "AAC")
_MOST_TAGS = 4  # ID3 tags one after another
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
CONVERT = "convert it with: ffmpeg -i FILE NEW.wav"
_UNPACK = "unpack it and list the files that are in it"
# How files begin that are no audio, or audio that is not read; what to do.
_OTHERS = {
    rb"version https://git-lfs": "a Git LFS pointer in place of the file; fetch it with: git lfs pull",
    rb"(?is)\s*(<!doctype html|<html|<head|<\?xml.{0,200}<html)": (
        "an HTML page: a download that failed; fetch the file again by its own link: curl -fLO LINK"
    ),
    rb"\x00\x05\x16\x07": (
        'an AppleDouble file, which macOS puts beside the real one; remove them with: find FOLDER -name "._*" -delete'
    ),
    rb"PK\x03\x04": f"a zip archive; {_UNPACK}: unzip FILE",
    rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|(?s:.{257})ustar": f"an archive; {_UNPACK}: bsdtar -xf FILE",
    rb"#EXTM3U|ffconcat|\[playlist\]": "a playlist; list the files that it names",
    rb"FORM....AIF[FC]": f"AIFF; {CONVERT}",
    rb"caff": f"CAF; {CONVERT}",
    rb"\.snd|dns\.": f"AU; {CONVERT}",
    rb"riff\x2e\x91\xcf\x11": f"W64; {CONVERT}",
    rb"RIFF....AVI ": f"AVI; {CONVERT}",
    rb"NIST_1A": f"NIST SPHERE; {CONVERT}",
    rb"wvpk|MAC |TTA1|DSD |Creative Voice|FLV\x01|\x0b\x77|ajkg|FORM|MThd|MATLAB|\x89HDF": (
        f"a format that is not read; if it is audio, {CONVERT}"
    ),
    rb"%PDF|\x89PNG|\xff\xd8\xff|GIF8|BM....\0\0": "a document or a picture",
    rb"\x80[\x02-\x05]|cos\n|\x93NUMPY": "an array or object of Python; write it as audio",
    rb"\s*[\[{<]": "JSON or XML",
}


class Piece(io.RawIOBase):
    """A range of an open file's bytes, as a file of its own."""

    def __init__(self, file, start: int = 0, end: int | None = None):
        self._handle, self._place = file.fileno(), 0
        self.start = start
        self.size = (os.fstat(self._handle).st_size if end is None else end) - start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence])
        return self._place

    def read_at(self, place: int, count: int) -> bytes:
        return os.pread(self._handle, max(0, min(count, self.size - place)), self.start + place)

    def readinto(self, buffer) -> int:
        content = self.read_at(self._place, len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def find_format(file: Piece) -> tuple[str | None, int]:
    """One of FORMATS, or None for anything else; and where it begins, after its tags."""
    place = 0
    for _ in range(_MOST_TAGS):
        head = file.read_at(place, 16)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        place += 10 + read_tag_size(head)
    if head[:4] == b"fLaC":
        return "FLAC", place
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0":  # the eleven bits that a frame begins with
        return ("MP3" if head[1] & 6 else "AAC" if head[1] & 0xF6 == 0xF0 else None), place
    if place:  # zeros after a tag: frames may come
        return ("MP3" if not head.strip(b"\0") else None), place
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "WAV", 0
    if head[:4] == b"OggS":
        return "OGG", 0
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "MP4", 0
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "WEBM", 0
    if head[:5] == b"#!AMR":
        return "AMR", 0
    return ("WMA" if head == _ASF else None), 0


def read_tag_size(head: bytes) -> int:
    """The bytes of an ID3 tag after its ten first ones, which `head` begins with."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def describe(file: Piece) -> str:
    """What a file without a format is, and what to do."""
    head = file.read_at(0, 1024)
    for pattern, what in _OTHERS.items():
        if re.match(pattern, head, re.S):
            return what
    text = head.decode("utf-8", "ignore")
    if len(text.encode()) >= len(head) - 4 and all(letter.isprintable() or letter in "\r\n\t\f" for letter in text):
        return "text, not audio"
    return (
        f"none of {', '.join(FORMATS)}; samples without a header can be converted, with their own format, rate and "
        "channels: ffmpeg -f s16le -ar 16000 -ac 1 -i FILE NEW.wav"
    )
