"""MP3s and Oggs of every kind: their length is that of their frames or pages, or they are set aside."""

import io
import struct

import av
import numpy as np
import pytest
import soundfile
from made_audio import LIMITS, encode, load_bytes, make_speech, reason_of

from ser.audio import decode, mp3, ogg
from ser.audio.containers import Piece

RATE, SECONDS = 44_100, 3.0
SPEECH = make_speech(SECONDS, RATE, 2)
# Half of it all but still: its frames are small at a variable rate, and a length guessed from the first is far off.
UNEVEN = SPEECH * np.where(np.arange(len(SPEECH)) < len(SPEECH) / 2, 0.003, 1)[:, None].astype(np.float32)
BARE = {"write_xing": "0", "id3v2_version": "0"}
CODERS = {
    "CBR": {},
    "VBR": {"flags": "+qscale", "global_quality": str(118 * 4)},
    "ABR": {"abr": "1"},
}
ID3 = b"ID3\4\0\0" + bytes([0, 0, 60_000 >> 7 & 127, 0]) + b"\0" * (60_000 >> 7 << 7)
ID3_END, APE = (
    b"TAG" + bytes(125),
    b"APETAGEX" + struct.pack("<IIII", 2000, 40, 1, 1 << 31 | 1 << 29) + bytes(8) + bytes(1968),
)
APE += b"APETAGEX" + struct.pack("<IIII", 2000, 40, 1, 1 << 31) + bytes(8)


def make_mp3(samples=UNEVEN, coder="CBR", options=None, rate=RATE) -> bytes:
    options = BARE if options is None else options
    return encode(samples, rate, "mp3", "libmp3lame", options=options, coder=CODERS[coder])


def count_frames(content: bytes) -> int:
    """By FFmpeg's demuxer."""
    with av.open(io.BytesIO(content), format="mp3") as file:
        return sum(packet.size > 0 for packet in file.demux(file.streams.audio[0]))


def walk(folder, content: bytes, walker):
    (folder / "walked").write_bytes(content)
    with open(folder / "walked", "rb", buffering=0) as file:
        return walker(Piece(file))


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("tags", [(b"", b""), (ID3, ID3_END), (b"", APE + ID3_END), (ID3 + ID3, b"")])
def test_an_mp3_without_a_count_is_as_long_as_its_frames(tmp_path, coder, tags):
    bare = make_mp3(coder=coder)
    frames = count_frames(bare)
    found, info = load_bytes(tmp_path, tags[0] + bare + tags[1])
    (run,) = walk(tmp_path, bare, mp3.walk)
    assert run.frames == frames and abs(frames * 1152 - SECONDS * RATE) < 3 * 1152
    assert abs(info.duration_s * RATE - frames * 1152) <= 1152
    np.testing.assert_allclose(found, load_bytes(tmp_path, bare)[0][: len(found)], atol=1e-3)


def test_the_headers_of_every_version_and_layer_are_read(tmp_path):
    for rate, samples in ((8_000, 576), (12_000, 576), (22_050, 576), (32_000, 1152), (48_000, 1152)):
        content = make_mp3(make_speech(1, rate), rate=rate)
        (run,) = walk(tmp_path, content, mp3.walk)
        assert (run.header.samples, run.header.kind[2]) == (samples, rate) and run.frames == count_frames(content)
    (run,) = walk(tmp_path, encode(SPEECH, RATE, "mp2", "mp2"), mp3.walk)
    assert (run.header.samples, run.header.kind[1]) == (1152, 2)
    # Layer I, 384 kb/s at 48 kHz, from the standard: 12 * 384,000 / 48,000 slots of 4 bytes.
    assert mp3.read_header(b"\xff\xff\xc4\0") == mp3.Header(384, 384, (3, 1, 48_000, False))


def test_mp3s_one_after_another_are_read_to_the_end(tmp_path):
    one, other = (make_mp3(make_speech(s, RATE, 2), options={}) for s in (1.2, 0.8))
    found, info = load_bytes(tmp_path, one + other)
    pieces = [load_bytes(tmp_path, each)[0] for each in (one, other)]
    assert info.duration_s == pytest.approx(2.0, abs=1 / RATE)
    assert len(found) == 32_000  # each piece as it is alone; resampling mixes 10 ms around where they meet
    np.testing.assert_allclose(found[:19_000], pieces[0][:19_000], atol=1e-3)
    np.testing.assert_allclose(found[19_400:], pieces[1][200:], atol=1e-3)
    part, _ = load_bytes(tmp_path, one + other, start=1.0, stop=1.5)
    np.testing.assert_allclose(part[200:-200], found[16_200:23_800], atol=1e-3)
    # Without tags and headers nothing marks where the second begins: frames follow frames.
    bare = make_mp3(make_speech(1.2, RATE, 2)), make_mp3(make_speech(0.8, RATE, 2))
    frames = sum(map(count_frames, bare))
    for between in (b"", ID3, ID3_END):
        _, info = load_bytes(tmp_path, between.join(bare))
        assert abs(info.duration_s * RATE - frames * 1152) <= 1152
    assert "too long: 1.9" in reason_of(tmp_path, one + other, max_seconds=1.5)
    slower = make_mp3(make_speech(1, 22_050, 2), rate=22_050)
    assert "changes midway from 44100 to 22050 Hz" in reason_of(tmp_path, one + slower)


def test_mp3s_that_are_cut_damaged_or_empty(tmp_path):
    counted = make_mp3(options={})
    assert "truncated: " in reason_of(tmp_path, counted[: len(counted) * 2 // 3])
    assert reason_of(tmp_path, ID3) == "cannot be decoded: an MP3 of tags alone, without audio"
    assert "tags alone" in reason_of(tmp_path, ID3 + bytes(5000))
    bare = make_mp3()
    found, _ = load_bytes(tmp_path, ID3 + bytes(5000) + bare)  # zeros after the tag
    assert abs(len(found) / 16_000 - count_frames(bare) * 1152 / RATE) < 1152 / RATE


@pytest.mark.parametrize(("codec", "rate"), [("VORBIS", 44_100), ("OPUS", 48_000)])
def test_oggs_one_after_another_are_read_to_the_end(tmp_path, codec, rate):
    pieces = []
    for seconds in (1.2, 0.8):
        file = io.BytesIO()
        soundfile.write(file, make_speech(seconds, rate, 2), rate, format="OGG", subtype=codec)
        pieces.append(file.getvalue())
    alone = [soundfile.read(io.BytesIO(each), dtype="float32")[0].mean(axis=1) for each in pieces]
    assert list(map(len, alone)) == [1.2 * rate, 0.8 * rate]
    found, info = load_bytes(tmp_path, b"".join(pieces))
    soundfile.write(tmp_path / "joined", np.concatenate(alone), rate, format="WAV", subtype="FLOAT")
    np.testing.assert_allclose(found, decode.load(tmp_path / "joined", **LIMITS)[0], atol=1e-4)
    assert (info.duration_s, len(walk(tmp_path, b"".join(pieces), ogg.walk)[0])) == (2.0, 2)
    assert reason_of(tmp_path, b"".join(pieces)[:-9]) == "truncated: its last page is cut"


@pytest.mark.parametrize(("codec", "rate"), [("VORBIS", 44_100), ("OPUS", 48_000)])
def test_an_ogg_without_some_of_its_pages(tmp_path, codec, rate):
    file = io.BytesIO()
    soundfile.write(file, make_speech(9, rate), rate, format="OGG", subtype=codec)
    content = file.getvalue()
    places = [at for at in range(len(content)) if content[at : at + 4] == b"OggS"]
    assert reason_of(tmp_path, content[: places[6]] + content[places[7] :]).startswith("damaged: 8.")
    # As from a station that was on the air already: what is there is all that there should be.
    _, info = load_bytes(tmp_path, content[: places[2]] + content[places[-4] :])
    assert 0.5 < info.duration_s < 4


def test_ogg_flac_one_after_another(tmp_path):
    one, other = (encode(make_speech(s, RATE, 2), RATE, "ogg", "flac") for s in (1.2, 0.8))
    assert load_bytes(tmp_path, one + other)[1].duration_s == 2.0
