"""A recording over time: scores of windows, before and after calibration, and where its speaker stands."""

import math

import numpy as np

from ser_score.audio import RATE, load, measure_level
from ser_score.bundle import Bundle
from ser_score.calibration import normalise, rank
from ser_score.errors import Rejected
from ser_score.mfcc import mean_mfcc
from ser_score.scorer import Scorer
from ser_score.scores import Score, SpeakerScores

SECONDS = 4  # of a window, about those of an utterance
SHORTEST = 1  # s, where a calibration needs more windows than a short recording has
SHOWN_NEIGHBOURS = 5


def score_windows(scorer: Scorer, content: bytes, speaker: str | None) -> dict:
    """What the page shows of a recording, for JSON; raises Rejected for audio that cannot be used.

    The windows are one speaker's recordings to the calibration, unless the speaker is enrolled.
    """
    samples = load(content, scorer.bundle.limits)
    bounds = _cut(len(samples), scorer.bundle)
    parts = {str(n): samples[begin:end] for n, (begin, end) in enumerate(bounds)}
    if speaker is not None and scorer.count_enrolled(speaker):
        found = _score_one_by_one(scorer, parts, speaker)
    else:
        found = scorer.score_speaker(parts)
    windows = []
    for key, (begin, end) in zip(parts, bounds, strict=True):
        score = found.scores.get(key)
        own = {"start": begin / RATE, "end": end / RATE, "reason": found.rejected.get(key, "")}
        windows.append(own | ({"scores": _describe(scorer.bundle, score)} if score else {}))
    notes = sorted({score.note for score in found.scores.values()} - {""})
    calibration = next((score.calibration for score in found.scores.values()), "none")
    return {
        "seconds": len(samples) / RATE,
        "level_db": measure_level(samples),
        "calibration": calibration,
        "windows": windows,
        "notes": notes,
        "flags": flag_whole(scorer, samples),
        "place": place_speaker(scorer.bundle, found.vector),
    }


def flag_whole(scorer: Scorer, samples: np.ndarray) -> list[str]:
    """How a recording is unlike the training audio; its windows are what has a length."""
    flags = scorer.flag(samples, mean_mfcc(samples))
    if len(samples) > SECONDS * RATE:
        flags = [flag for flag in flags if not flag.startswith("longer")]
    return flags


def _cut(length: int, bundle: Bundle) -> list[tuple[int, int]]:
    """Bounds of windows of equal length: at least as many as calibration needs, where they are not too short."""
    seconds = length / RATE
    count = max(1, math.ceil(seconds / SECONDS), min(bundle.least, int(seconds / SHORTEST)))
    edges = np.linspace(0, length, count + 1).astype(int)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _score_one_by_one(scorer: Scorer, parts: dict[str, np.ndarray], speaker: str) -> SpeakerScores:
    scores, rejected = {}, {}
    for key, part in parts.items():
        try:
            scores[key] = scorer.score(part, speaker=speaker)
        except Rejected as reason:
            rejected[key] = str(reason)
    return SpeakerScores(scores, rejected, True, [], scorer.find_vector(speaker))


def _describe(bundle: Bundle, score: Score) -> dict:
    """By target: `before` and `after` calibration, `[value, low, high]` each."""
    low, high = (np.clip(score.raw + sign * bundle.half_widths, *bundle.label_range) for sign in (-1, 1))
    return {
        target: {
            "before": [float(score.raw[t]), float(low[t]), float(high[t])],
            "after": [float(score.values[t]), float(score.low[t]), float(score.high[t])],
        }
        for t, target in enumerate(score.targets)
    }


def describe_map(bundle: Bundle) -> list[list[float]]:
    """Where the training speakers stand, `[x, y]` each in no order that tells of names; empty without calibration."""
    return [] if bundle.references is None else _round(_project(bundle)[0])


def place_speaker(bundle: Bundle, vector: np.ndarray | None) -> dict | None:
    """Where a speaker stands among them: `point`, and of the nearest the places in the map and the similarities."""
    if vector is None:
        return None
    _, centre, axes = _project(bundle)
    order, cosine = rank(vector, bundle.references.of_seed(0))
    return {
        "point": _round((normalise(vector[None]) - centre) @ axes)[0],
        "neighbours": order[:SHOWN_NEIGHBOURS].tolist(),
        "similarities": [round(float(value), 3) for value in cosine[:SHOWN_NEIGHBOURS]],
    }


def _project(bundle: Bundle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The references, (speakers, 2), in the plane of their first two principal components; its centre and axes."""
    points = normalise(bundle.references.of_seed(0))
    centre = points.mean(axis=0)
    axes = np.linalg.svd(points - centre, full_matrices=False)[2][:2].T  # (W, 2), or (W, 1) of one speaker
    axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))
    return (points - centre) @ axes, centre, axes


def _round(points: np.ndarray) -> list[list[float]]:
    return np.round(points, 4).tolist()
