"""The recordings of a file, each read by the decoder that reads it right: libsndfile where it does, else FFmpeg."""

import math
import os
from dataclasses import dataclass

import numpy as np

from ser.audio import ffmpeg, mp3, ogg, sndfile, wav
from ser.audio.containers import CONVERT, Piece, describe, find_format
from ser.audio.limits import Part, Rejected, Sound, Span

# Some encoders count the frame of an MP3's header as audio and leave out the decoder's delay: no sign of truncation.
MP3_SLACK = 2


@dataclass(frozen=True)
class Recording:
    """One of the recordings that lie one after another in a file of MP3 or Ogg: most files have one."""

    start: int  # bytes
    end: int
    is_for_sndfile: bool
    span: Span | None  # its length, where it was counted


def read_recordings(file, part: Part) -> Sound:
    """A part of an open file; Rejected where it is no audio, or not whole."""
    if os.fstat(file.fileno()).st_size == 0:
        raise Rejected("empty file")
    whole = Piece(file)
    kind, place = find_format(whole)
    if kind == "WAV":
        return _read_wav(file, whole, part)
    if kind == "FLAC":
        return _read_flac(file, whole, place, part)
    if kind == "OGG":
        return _read_counted(file, kind, _list_ogg(whole), part)
    if kind == "MP3":
        return _read_mp3(file, whole, place, part)
    if kind is None:
        raise Rejected(f"cannot be decoded: {describe(Piece(file, place))}")
    return ffmpeg.read(Piece(file, place), kind, part)


def _read_wav(file, whole: Piece, part: Part) -> Sound:
    header = wav.read_header(whole)
    if header and header.is_mpeg:
        end = min(whole.size, header.start + header.size) if header.size else whole.size
        return _read_mp3(file, Piece(file, 0, end), header.start, part, is_wav=True)
    if header and not header.is_for_sndfile:
        return ffmpeg.read(whole, "WAV", part)
    return _read_whole(file, whole, part)


def _read_flac(file, whole: Piece, place: int, part: Part) -> Sound:
    """Its header, STREAMINFO, has the bits of a sample and, in 36 bits, the number of samples: 0 where unknown."""
    numbers = int.from_bytes(whole.read_at(place + 18, 8))
    if (numbers >> 36 & 31) + 1 > 24 or not numbers & (1 << 36) - 1:
        return ffmpeg.read(Piece(file, place), "FLAC", part)
    return _read_whole(file, whole, part)


def _read_mp3(file, whole: Piece, place: int, part: Part, is_wav: bool = False) -> Sound:
    runs = mp3.walk(whole, place)
    if runs is None:  # the free format
        return _read_whole(file, whole, part)
    recordings = []
    for run in runs:
        one, rate = run.header.samples, run.header.kind[2]
        if run.promised and run.promised - run.frames > MP3_SLACK:
            there = max(0, run.most - run.trim)
            raise Rejected(f"truncated: {there} of {run.promised * one - run.trim} frames are there")
        span = Span((run.most - run.trim - one) / rate, (run.most + one) / rate)
        if run.frames:
            recordings.append(Recording(run.start, run.end, not is_wav, span))
    if not recordings:
        raise Rejected("cannot be decoded: an MP3 of tags alone, without audio")
    return _read_counted(file, "MP3", recordings, part)


def _list_ogg(whole: Piece) -> list[Recording]:
    links, is_cut = ogg.walk(whole)
    if is_cut or not links:
        raise Rejected("truncated: its last page is cut")
    return [Recording(link.start, link.end, link.codec in ("vorbis", "opus"), link.span) for link in links]


def _read_whole(file, whole: Piece, part: Part, span: Span | None = None) -> Sound:
    file.seek(0)
    # By descriptor: libsndfile then reads by itself, and never guesses a format from a file name.
    sound = sndfile.read(file.fileno(), part, span)
    if sound is None and span is None:
        raise Rejected(f"cannot be decoded: {describe(whole)}")
    return sound


def _read_counted(file, kind: str, recordings: list[Recording], part: Part) -> Sound:
    if len(recordings) == 1:
        return _read_one(file, kind, recordings[0], part, is_alone=True)
    spans = [recording.span for recording in recordings]
    if None in spans:
        raise Rejected(f"cannot be decoded: several recordings one after another; {CONVERT}")
    limit = math.inf if part.stop is None else part.stop
    least = min(limit, sum(span.low for span in spans)) - part.start
    if least > part.longest:  # by the counts alone
        raise Rejected(f"too long: {least:.3f} s or more, expected at most {part.longest:g} s")
    sounds, seconds = [], 0.0
    for recording in recordings:
        if seconds >= limit:
            break
        inside = limit - seconds < recording.span.low
        most = recording.span.high + 1  # s: what is longer is not what was counted
        sound = _read_one(file, kind, recording, Part(0.0, limit - seconds if inside else None, most))
        if sounds and sound.rate != sounds[0].rate:
            raise Rejected(f"changes midway from {sounds[0].rate} to {sound.rate} Hz; {CONVERT}")
        sounds.append(sound)
        seconds += len(sound.mono) / sound.rate
    mono, rate = np.concatenate([sound.mono for sound in sounds]), sounds[0].rate
    end = part.find_end(len(mono), rate)
    mono = mono[part.find_first(rate) : end]
    part.check_length(len(mono), rate)
    note = f"{len(recordings)} recordings one after another"
    return Sound(mono, rate, max(sound.channels for sound in sounds), max(sound.loudest for sound in sounds), note)


def _read_one(file, kind: str, recording: Recording, part: Part, is_alone: bool = False) -> Sound:
    """One recording; by FFmpeg where libsndfile finds another length than was counted."""
    piece = Piece(file, recording.start, recording.end)
    sound = None
    if recording.is_for_sndfile:
        sound = (
            _read_whole(file, piece, part, recording.span) if is_alone else sndfile.read(piece, part, recording.span)
        )
    return sound or ffmpeg.read(piece, kind, part, recording.span)
