"""Which audio a file holds, by its first bytes: only what the documents name reaches a decoder."""

FORMATS = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3"}  # as libsndfile calls them
_MOST_TAGS = 4  # ID3 tags one after another


def find_format(file) -> str | None:
    """WAV, FLAC, OGG or MP3; None for anything else. `file` is open, and left somewhere.

    libsndfile would take any of 25 formats, whatever the file is called, and some of their readers are old.
    """
    place = 0
    for _ in range(_MOST_TAGS):
        file.seek(place)
        head = file.read(12)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        place += 10 + size
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE" and place == 0:
        return "WAV"
    if head[:4] == b"fLaC":
        return "FLAC"
    if head[:4] == b"OggS" and place == 0:
        return "OGG"
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0":  # the eleven bits that a frame begins with
        return "MP3"
    return None
