"""What the other utterances of a speaker tell of one: a mean and a spread to normalise by, or utterances to look at.

Normalising by the speaker's own statistics is the field's oldest personalisation (Busso et al., "Iterative feature
normalization scheme for automatic emotion detection from speech", IEEE Transactions on Affective Computing 2013).
Looking at a few other utterances is after Triantafyllopoulos et al. 2024 (`model.Attend`).

Of an utterance that knows K others, these are the first K of its speaker in the order of enrolment, without itself: so
all utterances are scored, and each is apart from those that enrol its speaker. Where there are fewer, it knows fewer.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from ser.config.ablation import Ablation
from ser.formats import tfrecord
from ser.formats.tfrecord import Record
from ser.heads.inputs import choose
from ser.statistics.enrolment import rank_utterances
from ser.statistics.permutation import draw_donors

CONSTANT = 1e-5  # a standard deviation below this is none


@dataclass(frozen=True, eq=False)
class Sums:
    """Of the rows of some utterances: their number, sum and sum of squares, (L, W) or (W,)."""

    count: int
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, frames: bool) -> "Sums":
        rows = (features if frames else features[None]).astype(np.float64)
        return cls(len(rows), rows.sum(axis=0), np.square(rows).sum(axis=0))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.count + other.count, self.total + other.total, self.squares + other.squares)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, float32; a feature without spread has 1, so that it is only centred."""
        mean = self.total / self.count
        spread = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0))
        return mean.astype(np.float32), np.where(spread > CONSTANT, spread, 1).astype(np.float32)


@dataclass
class Companions:
    """The utterances of a split by speaker, as far as an ablation asks for them."""

    ablation: Ablation
    whole: dict[str, tuple] = field(default_factory=dict)  # mean and spread of all utterances of a speaker
    few: dict[str, dict[str, Sums]] = field(default_factory=dict)  # of each of the first utterances of a speaker
    donors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: list[str], ablation: Ablation) -> "Companions":
        """What the ablation needs of a split, in one reading of its features; nothing is read where it needs none."""
        found = cls(ablation)
        if ablation.normalise is None and not ablation.attended:
            return found
        wanted = max(ablation.enrolment or 0, ablation.attended or 0)
        for path in paths:
            whole: dict[str, Sums] = {}  # a speaker is in one shard only
            for record in tfrecord.read(path):
                sums = Sums.of(choose(record.embedding, len(record.embedding), ablation), ablation.reads_frames)
                speaker = record.speaker_id
                found.donors[speaker] = speaker
                if ablation.normalise and not ablation.enrolment:
                    whole[speaker] = whole[speaker] + sums if speaker in whole else sums
                if wanted:
                    few = found.few.setdefault(speaker, {})
                    few[record.utterance_id] = sums
                    if len(few) > wanted + 1:  # one more, for an utterance that is among them itself
                        del few[order_utterances(list(few))[-1]]
            found.whole |= {speaker: sums.measure() for speaker, sums in whole.items()}
        if ablation.permuted:
            found.donors = draw_donors(found.donors)
        return found

    def take(self, record: Record) -> np.ndarray:
        """What a head reads of a record (`choose`), normalised by its speaker where the ablation says so."""
        features = choose(record.embedding, len(record.embedding), self.ablation)
        if self.ablation.normalise is None:
            return features
        return self.normalise(record.utterance_id, record.speaker_id, features)

    def normalise(self, utterance: str, speaker: str, features: np.ndarray) -> np.ndarray:
        """Features of an utterance less the mean (and divided by the spread) of those that it knows.

        A speaker without others is centred by its only utterance.
        """
        if self.ablation.enrolment:
            known = [sums for _, sums in self._find_others(utterance, speaker, self.ablation.enrolment)]
            first = known[0] if known else self.few[speaker][utterance]
            mean, spread = sum(known[1:], first).measure()
        else:
            mean, spread = self.whole[self.donors[speaker]]
        centred = features - mean
        return (centred / spread if self.ablation.normalise == "speaker" else centred).astype(features.dtype)

    def list_others(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """The utterances that one looks at: (K, ...) float32, zeros where there are fewer, and (K,), 1 for each."""
        k, features = self.ablation.attended, self.take(record)
        others, known = np.zeros((k, *features.shape), np.float32), np.zeros(k, np.float32)
        for i, (utterance, sums) in enumerate(self._find_others(record.utterance_id, record.speaker_id, k)):
            other = sums.total.astype(record.embedding.dtype)
            if self.ablation.normalise:
                other = self.normalise(utterance, self.donors[record.speaker_id], other)
            others[i], known[i] = other, 1
        return others, known

    def _find_others(self, utterance: str, speaker: str, k: int) -> list[tuple[str, Sums]]:
        few = self.few[self.donors[speaker]]
        return [(name, few[name]) for name in order_utterances(list(few)) if name != utterance][:k]


def order_utterances(utterance_ids: list[str]) -> list[str]:
    """A speaker's utterances in the order of enrolment (its first draw)."""
    ranks = rank_utterances(utterance_ids, ["one"] * len(utterance_ids), 0)
    return [utterance_ids[i] for i in np.argsort(ranks)]


def fix_others(utterance_ids: list[str], speakers: list[str], k: int, permuted: bool) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the K utterances that each one looks at, (N, K), and which of them there are, (N, K)."""
    rows = _list_rows(speakers, permuted)
    others, known = np.zeros((len(speakers), k), np.int32), np.zeros((len(speakers), k), np.float32)
    for own, donors in rows:
        first = sorted(donors, key=_rank_within(utterance_ids, donors).get)[: k + 1]
        for row in own:
            found = [other for other in first if other != row][:k]
            others[row, : len(found)], known[row, : len(found)] = found, 1
    return others, known


def draw_others(
    utterance_ids: list[str], speakers: list[str], k: int, permuted: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """As `fix_others`, but drawn: K different utterances of the speaker, none of them the utterance itself."""
    rows = _list_rows(speakers, permuted)
    others, known = np.zeros((len(speakers), k), np.int32), np.zeros((len(speakers), k), np.float32)
    for own, donors in rows:
        circle = rng.permutation(donors)  # each looks at those that follow it
        step = np.arange(1, k + 1)
        place = {row: i for i, row in enumerate(circle.tolist())}
        start = np.array([place.get(row, i % len(circle)) for i, row in enumerate(own)])
        others[own] = circle[(start[:, None] + step) % len(circle)]
        known[own] = step <= len(circle) - (donors is own)
    return others, known


def list_companions(utterance_ids: list[str], speakers: list[str], ablation: Ablation) -> list[tuple[int, ...]]:
    """Of each utterance the rows of those that it is normalised by."""
    permuted = bool(ablation.permuted)
    if ablation.enrolment:
        rows = zip(*fix_others(utterance_ids, speakers, ablation.enrolment, permuted), strict=True)
        return [tuple(others[known == 1].tolist()) or (row,) for row, (others, known) in enumerate(rows)]
    found = {row: tuple(donors) for own, donors in _list_rows(speakers, permuted) for row in own}
    return [found[row] for row in range(len(speakers))]


def _list_rows(speakers: list[str], permuted: bool) -> list[tuple[list[int], list[int]]]:
    """Of each speaker its rows, and those of the speaker whose utterances it knows."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, speaker in enumerate(speakers):
        rows[speaker].append(row)
    donors = draw_donors(rows) if permuted else {speaker: speaker for speaker in rows}
    return [(own, rows[donors[speaker]]) for speaker, own in rows.items()]


def _rank_within(utterance_ids: list[str], rows: list[int]) -> dict[int, int]:
    ranks = rank_utterances([utterance_ids[row] for row in rows], ["one"] * len(rows), 0)
    return dict(zip(rows, ranks.tolist(), strict=True))
