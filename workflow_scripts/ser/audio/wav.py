"""The header of a WAV: which codec it holds, and where its samples lie."""

from dataclasses import dataclass

from ser.audio.containers import Piece
from ser.audio.limits import Rejected

_MOST_CHUNKS = 1_000
# What programs write that stream to a pipe and never learn the length: this size or more.
_UNKNOWN = 0x7FFF_0000
# Codecs by the number in the header: those of MPEG audio, and those that libsndfile reads.
_MPEG = {0x50, 0x55}
_SNDFILE = {0x01, 0x02, 0x03, 0x06, 0x07, 0x11, 0x31, 0x38, 0x40, 0x64, 0xFFFE}


@dataclass(frozen=True)
class Header:
    codec: int
    block: int  # bytes of a frame of samples, or of what is coded together
    start: int  # of the samples, bytes
    size: int  # of the samples, as the header says; 0 where it does not

    @property
    def is_mpeg(self) -> bool:
        return self.codec in _MPEG

    @property
    def is_for_sndfile(self) -> bool:
        return self.codec in _SNDFILE and self.size > 0


def read_header(file: Piece) -> Header | None:
    """None where there are no samples; Rejected where fewer are there than it says."""
    order = "big" if file.read_at(0, 4) == b"RIFX" else "little"
    place, codec, block, long_size = 12, 0, 0, 0
    for _ in range(_MOST_CHUNKS):
        head = file.read_at(place, 24)
        size = int.from_bytes(head[4:8], order)
        if head[:4] == b"ds64":  # of an RF64
            long_size = int.from_bytes(head[16:24], order)
        if head[:4] == b"fmt ":
            codec, block = int.from_bytes(head[8:10], order), int.from_bytes(head[20:22], order)
        if head[:4] == b"data":
            size = long_size if size == 0xFFFF_FFFF and long_size else size if size < _UNKNOWN else 0
            _check_size(file.size - place - 8, size, place + 8, block)
            return Header(codec, block, place + 8, size)
        if len(head) < 8:
            return None
        place += 8 + size + size % 2
    return None


def _check_size(present: int, promised: int, start: int, block: int) -> None:
    """Recorders put the size of the file, or of what comes after its first eight bytes, where the samples' goes."""
    lacking = promised - present
    if present > 0 and lacking >= max(block, 1) and lacking not in (8, start, start - 8):
        raise Rejected(
            f"truncated, or a wrong header: {present} of {promised} bytes of audio are there; if that is all of the "
            "recording, mend the header with: ffmpeg -i FILE -c copy NEW.wav"
        )
