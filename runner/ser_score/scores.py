"""What is heard of an utterance, known of a speaker, and found: what scoring hands on."""

from dataclasses import dataclass, field

import numpy as np

from ser_score.calibration import Line, Method


@dataclass(frozen=True)
class Heard:
    """What the bundle makes of an utterance. `labels` (seeds, targets), `fused` (seeds, W)."""

    labels: np.ndarray
    fused: np.ndarray
    compared: np.ndarray | None  # (W,) by the encoder of the similarity `encoder`
    mfcc: np.ndarray  # (13,)
    flags: list[str]


@dataclass
class Enrolled:
    """A speaker's enrolled utterances."""

    samples: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray | None] = field(default_factory=list)  # (targets,) each, where they are known
    fitted: "Fitted | None" = None  # of these utterances, made when it is first needed


@dataclass(frozen=True)
class Fitted:
    """What is known of a speaker by enrolled utterances; `lines` of the seeds, without a method none."""

    mfcc: np.ndarray
    vector: np.ndarray | None  # for a personalised encoder
    method: Method | None
    lines: list[Line]
    seen: np.ndarray | None = None  # (W,) of the first seed, that references are compared with


@dataclass(frozen=True)
class Score:
    """One recording's: `values`, `low`, `high`, `seed_sd` (targets,); `raw` are the uncalibrated ones."""

    targets: list[str]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seed_sd: np.ndarray | None  # None with one seed
    raw: np.ndarray
    calibration: str
    neighbours: list[str]
    flags: list[str]  # how the audio is unlike the training audio
    note: str  # why it is not calibrated, or ""

    def to_dict(self) -> dict:
        """For JSON."""
        cells = {}
        for t, target in enumerate(self.targets):
            cells[target] = {"score": float(self.values[t]), "low": float(self.low[t]), "high": float(self.high[t])}
            cells[target] |= {"uncalibrated": float(self.raw[t])}
            cells[target] |= {} if self.seed_sd is None else {"seed_sd": float(self.seed_sd[t])}
        others = {key: getattr(self, key) for key in ("calibration", "neighbours", "flags", "note")}
        return {"scores": cells} | others


@dataclass(frozen=True)
class SpeakerScores:
    """A speaker's scores: of each recording by its key, and how the speaker was calibrated."""

    scores: dict[str, Score]
    rejected: dict[str, str]  # the reason
    enough: bool
    moves: list[dict]  # by seed and target: k, alpha, max_similarity, neighbours, similarities
    vector: np.ndarray | None  # (W,) of the first seed, that references are compared with
