"""The frames of MPEG audio (MP3, and layers I and II), walked through one by one: how long a file really is."""

import functools
import re
import struct
from dataclasses import dataclass

from ser.audio.containers import Piece, read_tag_size
from ser.audio.limits import Rejected

_WINDOW = 1 << 20  # bytes read at a time, and that may come without a frame
_MOST_GAPS = 100  # times that something else may lie between frames
_LOOK = 256  # bytes: what a frame's headers and a tag's beginning are in
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version
# Kilobits a second by (version 1 or not, layer), from index 1.
_BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class Header:
    """What the first four bytes of a frame say."""

    size: int  # bytes of the frame; 0 in the free format, which does not say
    samples: int  # that it decodes to, of each channel
    kind: tuple[int, int, int, bool]  # version, layer, rate (Hz), whether mono: the same all through a recording


@dataclass
class Run:
    """Frames of one recording: a file has several where MP3s were put one after another."""

    start: int  # bytes
    end: int
    header: Header
    frames: int = 0
    promised: int | None = None  # frames by its Xing or VBRI header
    trim: int = 0  # samples that its header says are the encoder's delay and padding

    @property
    def most(self) -> int:
        """Samples of all frames that are there."""
        return self.frames * self.header.samples


@functools.lru_cache(4096)
def read_header(head: bytes) -> Header | None:
    """The frame that four bytes begin; None if none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)  # version 3 is MPEG-1, 2 is MPEG-2, 0 is MPEG-2.5
    index, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or index == 15 or rate_index == 3:
        return None
    rate = _RATES[version][rate_index]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    kind = (version, layer, rate, head[3] >> 6 == 3)
    if index == 0:
        return Header(0, samples, kind)
    bits = _BITRATES[version == 3, layer][index - 1] * 1000
    slot = 4 if layer == 1 else 1
    return Header((samples // 8 // slot * bits // rate + padding) * slot, samples, kind)


def walk(file: Piece, start: int = 0) -> list[Run] | None:
    """The runs of frames from a place on; None in the free format, whose frames do not say how long they are."""
    runs: list[Run] = []
    place, is_new, is_sure = start, True, False  # whether a run begins here, and whether a frame must begin here
    window, base, gaps = b"", start, 0
    while True:
        if place + _LOOK > base + len(window) and base + len(window) < file.size:
            window, base = file.read_at(place, _WINDOW), place
        head = window[place - base : place - base + 4]
        header = read_header(head)
        if header and not header.size and not runs:
            return None
        is_next = header and header.size and is_sure and header.kind == runs[-1].header.kind
        if header and not is_next and not _is_frame(file, place, header):
            header = None
        if header is None:
            tag = _measure_tag(file.read_at(place, _LOOK))
            found = place + tag if tag else _find_frame(file, place + 1)
            if len(head) < 4 or found is None:
                return runs
            place, is_new, is_sure, gaps = found, is_new or tag > 0, False, gaps + (tag == 0)
            if gaps > _MOST_GAPS:
                raise Rejected(f"damaged: what is no frame lies between its frames in more than {_MOST_GAPS} places")
            continue
        if place + header.size > file.size:
            return runs  # the last one is cut
        info = _read_info(window, place - base + _find_info(header))
        if is_new or info or header.kind != runs[-1].header.kind:
            runs.append(Run(place, place, header, 0, *(info or ())))
        runs[-1].frames += not info
        place += header.size
        runs[-1].end, is_new, is_sure = place, False, True


def _is_frame(file: Piece, place: int, header: Header) -> bool:
    """Whether what looks like a frame is one: another one, a tag or the end comes after it."""
    after = file.read_at(place + header.size, _LOOK)
    following = read_header(after[:4])
    return header.size > 0 and (
        len(after) < 4 or bool(following and following.kind == header.kind) or _measure_tag(after) > 0
    )


def _find_frame(file: Piece, place: int) -> int | None:
    """Where the next frame or tag begins, in what is neither; None if none does for a while."""
    window = file.read_at(place, _WINDOW)
    for found in re.finditer(rb"\xff[\xe2-\xff]|ID3[\2-\4]|TAG|APETAGEX", window):
        head = window[found.start() : found.start() + _LOOK]
        header = read_header(head[:4])
        if _measure_tag(head) or (header and _is_frame(file, place + found.start(), header)):
            return place + found.start()
    return None


def _measure_tag(head: bytes) -> int:
    """The bytes of the tag that `head` begins; 0 if it begins none."""
    if head[:3] == b"ID3" and len(head) >= 10:
        return 10 + read_tag_size(head)
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX" and len(head) >= 24:
        size, _, flags = struct.unpack("<III", head[12:24])
        return 32 + size if flags >> 29 & 1 else 32  # a header has its items after it, a footer before it
    return 0


def _find_info(header: Header) -> int:
    """Where in a first frame a Xing header is: after the side information of layer III."""
    version, _, _, is_mono = header.kind
    return 4 + ((17 if is_mono else 32) if version == 3 else (9 if is_mono else 17))


def _read_info(window: bytes, place: int) -> tuple[int | None, int] | None:
    """Frames, delay and padding by a Xing or VBRI header; None if there is none."""
    name = window[place : place + 4]
    if name in (b"Xing", b"Info"):
        flags = int.from_bytes(window[place + 4 : place + 8])
        promised = int.from_bytes(window[place + 8 : place + 12]) if flags & 1 else None
        lame = place + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
        delays = int.from_bytes(window[lame + 21 : lame + 24])
        return promised, (delays >> 12) + (delays & 0xFFF)
    return None
