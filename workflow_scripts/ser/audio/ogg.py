"""The pages of an Ogg file, walked through one by one: its recordings, and how long they are."""

import struct
from dataclasses import dataclass, field

from ser.audio.containers import Piece
from ser.audio.limits import Rejected, Span

_PAGE = struct.Struct("<4sBBqIIIB")
_FIRST = 2  # the flag of a stream's first page
_MOST_JUNK, _MOST_GAPS = 1 << 16, 100  # bytes that may come without a page, and how often
_CODECS = {b"\x01vorbis": "vorbis", b"OpusHead": "opus", b"\x7fFLAC": "flac", b"Speex   ": "speex"}


@dataclass
class Link:
    """One recording; a file has several where they were put one after another."""

    start: int  # bytes
    end: int
    codecs: list[str] = field(default_factory=list)  # of its streams: a film has several
    rate: int = 0  # Hz, of the counts below
    first: int = 0  # samples before its first one: what a decoder leaves out, or what came before a live stream
    late: int = 0  # samples that may be before it beyond that: a live stream does not say exactly where it begins
    last: int | None = None  # samples to its end
    frame: int = 0  # samples that a packet has at most

    @property
    def codec(self) -> str:
        return self.codecs[0] if len(self.codecs) == 1 else ""

    @property
    def span(self) -> Span | None:
        """Its length by its pages, to a packet; None where it is not known how they count."""
        if not self.codec or not self.rate:
            return None
        length = (self.last or 0) - self.first
        return Span((length - self.late - self.frame) / self.rate, (length + self.frame) / self.rate)


def walk(file: Piece) -> tuple[list[Link], bool]:
    """The recordings of a file, and whether its last page is cut."""
    links: list[Link] = []
    place, is_head, gaps = 0, False, 0  # whether first pages are being read
    while len(head := file.read_at(place, _PAGE.size)) == _PAGE.size:
        if head[:4] != b"OggS":
            window = file.read_at(place, _MOST_JUNK)
            if (found := window.find(b"OggS")) < 0:
                break
            place, gaps = place + found, gaps + 1
            if gaps > _MOST_GAPS:
                raise Rejected(f"damaged: what is no page lies between its pages in more than {_MOST_GAPS} places")
            continue
        _, _, flags, granule, _, _, _, segments = _PAGE.unpack(head)
        table = file.read_at(place + _PAGE.size, segments)
        end = place + _PAGE.size + segments + sum(table)
        if len(table) < segments or end > file.size:
            return links, True
        if flags & _FIRST:
            if not is_head:
                links.append(Link(place, place))
            _add_stream(links[-1], file.read_at(place + _PAGE.size + segments, 32))
        elif links and granule > 0:
            link, most = links[-1], sum(size < 255 for size in table) * links[-1].frame  # that the page can hold
            if link.last is None and granule > most:
                link.first, link.late = granule - most, most
            link.last = max(link.last or 0, granule)
        is_head = bool(flags & _FIRST)
        if links:
            links[-1].end = end
        place = end
    return links, file.read_at(place, 4) == b"OggS"


def _add_stream(link: Link, packet: bytes) -> None:
    """Note a stream by its first packet."""
    packet = packet.ljust(32, b"\0")
    link.codecs.append(next((name for start, name in _CODECS.items() if packet.startswith(start)), ""))
    if link.codec == "vorbis":
        link.rate, link.frame = int.from_bytes(packet[12:16], "little"), 1 << (packet[28] >> 4)  # its longer block
    elif link.codec == "opus":  # what a decoder leaves out at the start is counted
        link.rate, link.frame, link.first = 48_000, 5_760, int.from_bytes(packet[10:12], "little")
    elif link.codec == "flac":  # a block's longest size, and 20 bits for the rate
        link.rate, link.frame = int.from_bytes(packet[27:30]) >> 4, int.from_bytes(packet[19:21])
