"""The runner hears files as the workflow does: the same samples, what is set aside there, the same averaged MFCCs."""

import io

import numpy as np
import pytest
import soundfile
from made_bundle import AUDIO, speak

from ser.audio import decode
from ser.audio.mfcc import mean_mfcc as workflows_mfcc
from ser_score import audio
from ser_score.errors import Rejected
from ser_score.mfcc import mean_mfcc

LIMITS = audio.Limits(**AUDIO)


def write(folder, name, seconds=2.0, rate=16_000, channels=1, **options):
    wave = speak(seconds, rate=rate)
    soundfile.write(folder / name, wave if channels == 1 else np.stack([wave, wave / 2], 1), rate, **options)
    return folder / name


def make_files(folder):
    """Files of every kind, whole and not."""
    paths = [
        write(folder, "plain.wav"),
        write(folder, "stereo.flac", rate=44_100, channels=2),
        write(folder, "narrow.wav", rate=8000),
        write(folder, "odd.wav", rate=22_050, subtype="FLOAT"),
        write(folder, "some.ogg", rate=48_000),
        write(folder, "many blocks.mp3", seconds=30, rate=44_100, channels=2),
        write(folder, "short.wav", seconds=0.05),
        write(folder, "long.wav", seconds=3, rate=4000),
        write(folder, "slow.wav", rate=3000),
    ]
    soundfile.write(folder / "silent.wav", np.zeros(8000), 16_000)
    (folder / "cut.wav").write_bytes((folder / "plain.wav").read_bytes()[:-1000])
    (folder / "cut.flac").write_bytes((folder / "stereo.flac").read_bytes()[:-1000])
    (folder / "header.wav").write_bytes((folder / "plain.wav").read_bytes()[:44])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "note.wav").write_text("no audio")
    (folder / "folder.wav").mkdir()
    (folder / "broken.wav").symlink_to(folder / "nothing")
    names = ("silent.wav", "cut.wav", "cut.flac", "header.wav", "empty.wav", "note.wav", "folder.wav", "broken.wav")
    return [*paths, *(folder / name for name in names)]


def hear(load):
    """Samples, or the reason why there are none."""
    try:
        return load()
    except (Rejected, decode.Rejected) as reason:
        return str(reason)


def test_files_are_heard_as_in_the_workflow(tmp_path):
    for path in make_files(tmp_path):
        limits = AUDIO | ({"max_seconds": 2.5} if path.name == "long.wav" else {})
        expected = hear(lambda path=path, limits=limits: decode.load(path, **limits)[0])
        found = hear(lambda path=path, limits=limits: audio.load(path, audio.Limits(**limits)))
        if isinstance(expected, str):  # the workflow says more of the reason
            assert isinstance(found, str), path
            assert expected.split()[0].strip(",:") == found.split()[0].strip(",:"), (path, expected, found)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=str(path))


def test_content_is_heard_as_a_file_is(tmp_path):
    path = write(tmp_path, "stereo.flac", rate=44_100, channels=2)
    np.testing.assert_array_equal(audio.load(path.read_bytes(), LIMITS), audio.load(path, LIMITS))


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [("webm", "libopus", 48_000), ("matroska", "pcm_s16le", 16_000), ("mp4", "aac", 44_100)],
)
def test_what_browsers_and_phones_record_is_heard_as_it_comes(tmp_path, container, codec, rate):
    """WebM with Opus is at 48 kHz whatever was asked for, and a recording that goes on has no length in its header."""
    import av

    wave, content = speak(2, rate=rate), io.BytesIO()
    with av.open(content, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((wave[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    found = audio.load(content.getvalue(), LIMITS)
    (tmp_path / "file").write_bytes(content.getvalue())
    np.testing.assert_array_equal(found, decode.load(tmp_path / "file", **AUDIO)[0])
    expected = audio.prepare(wave, rate, LIMITS)
    assert abs(len(found) - len(expected)) < 0.1 * audio.RATE  # codecs pad
    best = max(np.corrcoef(found[shift : shift + 16_000], expected[:16_000])[0, 1] for shift in range(0, 2500, 1))
    assert best > 0.9  # 1 but for what the codec loses, and its delay


def test_a_damaged_recording_is_rejected():
    for content in (b"\x1a\x45\xdf\xa3" + bytes(100), b"\0\0\0\x18ftypmp42" + bytes(100)):
        with pytest.raises(Rejected, match="cannot be decoded"):
            audio.load(content, LIMITS)


@pytest.mark.parametrize(
    ("samples", "rate", "match"),
    [
        (np.zeros(8000, np.int16), 16_000, "array of floats"),
        (np.zeros((2, 2, 2)), 16_000, "array of floats"),
        (np.zeros(16_000), 16_000, "silent"),
        (np.full(16_000, np.nan), 16_000, "not finite"),
        (np.ones(8000), 100, "100 Hz"),
        (np.ones(0), 16_000, "no audio"),
    ],
)
def test_samples_that_cannot_be_used_are_rejected(samples, rate, match):
    with pytest.raises(Rejected, match=match):
        audio.prepare(samples, rate, LIMITS)


@pytest.mark.parametrize("length", [1, 400, 511, 512, 16_000, 100_001])
def test_mfccs_are_the_workflows(length):
    """Which the workflow's tests hold against librosa's. 1e-4: the FFT is of another library, in float32."""
    wave = speak(length / 16_000 + 1, seed=length)[:length]
    np.testing.assert_allclose(mean_mfcc(wave), workflows_mfcc(wave), atol=1e-4)
