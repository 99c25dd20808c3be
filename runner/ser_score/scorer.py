"""Scores of recordings by a bundle: of speakers with all of their audio, or of one utterance after the other."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ser_score.audio import load, measure_level, prepare
from ser_score.bundle import NONE, Bundle, read_bundle
from ser_score.calibration import Line, Method, average_seeds, describe, estimate, fit, rank
from ser_score.errors import BundleError, Rejected, UsageError
from ser_score.mfcc import mean_mfcc
from ser_score.scores import Enrolled, Fitted, Heard, Score, SpeakerScores

RATE = 16_000
ALL = "all training speakers"


class Scorer:
    """A bundle that is ready to score.

    Args:
        path: of the bundle
        threads: of arithmetic within one utterance
        workers: utterances of a speaker that are heard at once
    """

    def __init__(self, path: str | Path, threads: int = 1, workers: int = 1):
        self.bundle: Bundle = read_bundle(path, threads)
        self._workers, self._enrolled = workers, {}

    # ---- one utterance after the other

    def enrol(self, speaker: str, samples: np.ndarray, rate: int = RATE, labels: Iterable[float] | None = None) -> None:
        """Take an utterance, (n,) or (n, channels) floats, as one of a speaker's known ones.

        `labels` are its own, one for each target, for a calibration that enrols with labels. Raises Rejected for audio
        that cannot be used, UsageError where the bundle has no calibration that enrols.
        """
        if not self.bundle.enrolling:
            raise UsageError(
                f"the bundle {self.bundle.name} has no calibration with enrolled utterances: make one of a method with "
                "enrolment, or of one beside which the study's calibration.methods have the same with enrolment"
            )
        if labels is not None:
            labels = np.asarray(list(labels), float)
            if labels.shape != (len(self.bundle.targets),) or not np.isfinite(labels).all():
                raise UsageError(f"expected a label for each of {', '.join(self.bundle.targets)}")
        own = self._enrolled.setdefault(speaker, Enrolled())
        own.samples.append(prepare(samples, rate, self.bundle.limits))
        own.labels.append(labels)
        own.fitted = None

    def count_enrolled(self, speaker: str) -> int:
        """How many utterances of a speaker are enrolled."""
        return len(self._enrolled[speaker].samples) if speaker in self._enrolled else 0

    def find_vector(self, speaker: str) -> np.ndarray | None:
        """The vector, (W,), that an enrolled speaker is compared by, of the first seed; None before any score."""
        own = self._enrolled.get(speaker)
        return own.fitted.seen if own and own.fitted else None

    def forget(self, speaker: str) -> None:
        """Take all enrolled utterances of a speaker back."""
        self._enrolled.pop(speaker, None)

    def score(self, samples: np.ndarray, rate: int = RATE, speaker: str | None = None) -> Score:
        """The score of one utterance, (n,) or (n, channels) floats: calibrated if its speaker is enrolled.

        Raises Rejected for audio that cannot be used.
        """
        samples = prepare(samples, rate, self.bundle.limits)
        own = self._enrolled.get(speaker) or Enrolled()
        fitted = own.fitted or self._fit_enrolled(own, own.samples or [samples])
        if own.samples:
            own.fitted = fitted
        heard = self._hear(samples, fitted.mfcc, fitted.vector)
        if fitted.method is None:
            return self._describe(heard.labels, heard.labels, None, [], heard.flags, self._explain(speaker, own))
        pairs = zip(fitted.lines, heard.labels, strict=True)
        runs = np.stack([line.apply(labels[None])[0] for line, labels in pairs])
        names = self._name_neighbours(fitted.method, fitted.lines)
        return self._describe(runs, heard.labels, fitted.method, names, heard.flags, "")

    def _choose_method(self, own: Enrolled) -> Method | None:
        """The calibration for as many utterances as are enrolled; with labels, if there are as many."""
        labelled = sum(labels is not None for labels in own.labels)
        counts = {True: labelled, False: len(own.samples)}
        fitting = [m for m in self.bundle.enrolling if m.enrolment <= counts[m.enrolment_labels]]
        return max(fitting, key=lambda method: (method.enrolment_labels, method.enrolment), default=None)

    def _explain(self, speaker: str | None, own: Enrolled) -> str:
        if self.bundle.calibration is None and not self.bundle.enrolling:
            return "uncalibrated: the bundle has no calibration"
        if not self.bundle.enrolling:
            return f"uncalibrated: {self.bundle.calibration.name} needs all of a speaker's recordings at once"
        fewest = self.bundle.enrolling[0].enrolment
        who = "no speaker is named" if speaker is None else f"{len(own.samples)} utterances of the speaker are enrolled"
        return f"uncalibrated: {who}, and a calibration needs {fewest}"

    def _fit_enrolled(self, own: Enrolled, known: list[np.ndarray]) -> Fitted:
        """What the enrolment protocol knows of a speaker: a line for each seed, from the utterances that it takes."""
        mfcc = np.mean([mean_mfcc(samples) for samples in known], axis=0)
        vector, method = self._place(self._average_placing(known)), self._choose_method(own)
        if method is None:
            return Fitted(mfcc, vector, None, [])
        pairs = list(zip(own.samples, own.labels, strict=True))
        taken = [pair for pair in pairs if not method.enrolment_labels or pair[1] is not None]
        heard, lines, seen = [self._hear(samples, mfcc, vector) for samples, _ in taken], [], []
        for seed in range(len(self.bundle.seeds)):
            mean, std = estimate(np.stack([each.labels[seed] for each in heard]))
            moments = mean, np.nan_to_num(std)
            kept = estimate(np.stack([labels for _, labels in taken])) if method.enrolment_labels else moments
            # The workflow keeps the vectors of single utterances as float16.
            vectors = np.stack([each.fused[seed].astype(np.float16) for each in heard]).astype(float)
            seen.append(vectors.mean(axis=0))
            lines.append(fit(method, seed, self.bundle.references, seen[-1], moments, kept))
        return Fitted(mfcc, vector, method, lines, seen[0])

    # ---- speakers with all of their audio

    def score_speaker(
        self, recordings: dict[str, str | Path | bytes | np.ndarray], done: Callable[[], None] = lambda: None
    ) -> SpeakerScores:
        """Score all recordings of one speaker, by any key: files, their content, or samples at 16 kHz.

        `done` is called after each. A calibration that enrols needs `enrol`; here its speakers are left uncalibrated.
        """
        rejected: dict[str, str] = {}
        means, vector = None, None
        if self.bundle.reads_speaker or self.bundle.placement:
            means, vector = self._listen(recordings, rejected)

        def hear(key: str) -> Heard | None:
            try:
                samples = self._load(recordings[key])
                return self._hear(samples, means, vector)
            except Rejected as reason:
                rejected[key] = str(reason)
                return None
            finally:
                done()

        keys = [key for key in recordings if key not in rejected]
        for _ in rejected:
            done()
        with ThreadPoolExecutor(self._workers) as pool:
            heard = {key: one for key, one in zip(keys, pool.map(hear, keys), strict=True) if one}
        if not heard:
            return SpeakerScores({}, rejected, False, [], None)
        return self._calibrate(heard, rejected)

    def _listen(self, recordings: dict, rejected: dict[str, str]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """What is known of a speaker before any recording is scored: averaged MFCCs, the vector for an encoder."""

        def listen(key: str):
            try:
                samples = self._load(recordings[key])
                return mean_mfcc(samples), self._average_placing([samples])
            except Rejected as reason:
                rejected[key] = str(reason)

        with ThreadPoolExecutor(self._workers) as pool:
            found = [each for each in pool.map(listen, recordings) if each]
        if not found:
            return None, None
        placing = np.mean([each for _, each in found], axis=0) if self.bundle.placement else None
        return np.mean([mfcc for mfcc, _ in found], axis=0), self._place(placing)

    def _calibrate(self, heard: dict[str, Heard], rejected: dict[str, str]) -> SpeakerScores:
        bundle, method = self.bundle, self.bundle.calibration
        labels = np.stack([each.labels for each in heard.values()], axis=1)  # (seeds, utterances, targets)
        enough = len(heard) >= bundle.least
        note = (
            ""
            if enough
            else f"uncalibrated: {len(heard)} recordings of the speaker, and a calibration needs {bundle.least}"
        )
        if method is None or method.enrolment:
            note, method = self._explain(None, Enrolled()), None
        lines, vectors = [], self._average_vectors(list(heard.values())) if bundle.references else None
        if method and enough:
            for seed, own in enumerate(labels):
                moments = describe(own)
                lines.append(fit(method, seed, bundle.references, vectors[seed], moments, moments))
        runs = np.stack([line.apply(own) for line, own in zip(lines, labels, strict=True)]) if lines else labels
        values, raw = average_seeds(runs), average_seeds(labels)
        spread = runs.std(axis=0, ddof=1) if len(runs) > 1 else None
        names = self._name_neighbours(method, lines) if lines else []
        scores = {}
        for n, (key, each) in enumerate(heard.items()):
            own = None if spread is None else spread[n]
            scores[key] = self._bound(values[n], raw[n], own, method if lines else None, names, each.flags, note)
        first = None if vectors is None else vectors[0]
        return SpeakerScores(scores, rejected, enough, self._list_moves(method, lines), first)

    def _average_vectors(self, heard: list[Heard]) -> list[np.ndarray]:
        """The speaker's vector for each seed, of the kind that references have."""
        if self.bundle.similarity == "mfcc":
            return [np.mean([each.mfcc for each in heard], axis=0)[1:]] * len(self.bundle.seeds)
        if self.bundle.similarity == "encoder":
            mean = np.mean([each.compared.astype(float) for each in heard], axis=0)
            return [mean.astype(np.float32).astype(float)] * len(self.bundle.seeds)
        fused = np.mean([each.fused.astype(float) for each in heard], axis=0)
        return list(fused.astype(np.float32).astype(float))

    # ---- an utterance

    def _load(self, source) -> np.ndarray:
        if isinstance(source, np.ndarray):
            return prepare(source, RATE, self.bundle.limits)
        return load(source, self.bundle.limits)

    def _average_placing(self, known: list[np.ndarray]) -> np.ndarray | None:
        if not self.bundle.placement:
            return None
        encoder = self.bundle.encoders[self.bundle.placement.encoder]
        return np.mean([encoder.embed(samples)[0][-1].astype(float) for samples in known], axis=0)

    def _place(self, mean: np.ndarray | None) -> np.ndarray | None:
        """The vector of a speaker with these features, for a personalised encoder: the mean of similar speakers'."""
        if mean is None:
            return None
        placement = self.bundle.placement
        order, _ = rank(mean.astype(np.float32), placement.means)
        return placement.vectors[order[: placement.neighbours]].mean(axis=0)

    def _hear(self, samples: np.ndarray, mfcc: np.ndarray | None, vector: np.ndarray | None) -> Heard:
        bundle, embedded = self.bundle, {}
        for name in dict.fromkeys([*bundle.encoder_of_seed, *filter(None, [bundle.compared])]):
            encoder = bundle.encoders[name]
            embedded[name] = encoder.embed(samples, vector if encoder.vector else None)
        labels, fused = [], []
        for head, name in zip(bundle.heads, bundle.encoder_of_seed, strict=True):
            item = {"features": self._choose(*embedded[name])[None]}
            if bundle.reads_speaker:
                item["speaker"] = mfcc[None].astype(np.float32)
            found = head(**item)
            if found["labels"].shape != (1, len(bundle.targets)) or found["fused"].shape != (1, self._width(found)):
                raise BundleError("a head makes an array of another shape than it should")
            labels.append(found["labels"][0].astype(float))
            fused.append(found["fused"][0])
        compared = embedded[bundle.compared][0][-1] if bundle.compared else None
        own = mean_mfcc(samples)
        return Heard(np.stack(labels), np.stack(fused), compared, own, self.flag(samples, own))

    def _width(self, found: dict[str, np.ndarray]) -> int:
        """That of a head's fused vector: the references', if these are compared."""
        compared = self.bundle.references if self.bundle.similarity == "fused" else None
        return compared.vectors.shape[2] if compared else found["fused"].shape[-1]

    def _choose(self, pooled: np.ndarray, frames: np.ndarray | None) -> np.ndarray:
        """What a head takes; frames are thinned evenly where there are more than it was trained with."""
        if self.bundle.reads == "frames":
            return frames[:: -(-len(frames) // self.bundle.max_frames)]
        return pooled if self.bundle.reads == "layers" else pooled[self.bundle.reads]

    def flag(self, samples: np.ndarray, mfcc: np.ndarray) -> list[str]:
        """How samples, with their averaged MFCCs, are unlike the training audio."""
        found = {
            "level_db": (measure_level(samples), "quieter", "louder", "dB"),
            "seconds": (len(samples) / RATE, "shorter", "longer", "s"),
            "treble_db": (
                float(self.bundle.treble @ mfcc),
                "duller (less above 4 kHz)",
                "brighter (more above 4 kHz)",
                "dB",
            ),
        }
        flags = []
        for key, (value, below, above, unit) in found.items():
            low, high = self.bundle.audio[key]
            if not low <= value <= high:
                what = below if value < low else above
                flags.append(f"{what} than the training audio: {value:.1f} {unit}; that has {low:.1f} to {high:.1f}")
        return flags

    # ---- how it is told

    def _describe(self, runs, raw, method: Method | None, neighbours: list[str], flags: list[str], note: str) -> Score:
        """The score of one utterance from its seeds', (seeds, targets)."""
        spread = runs.std(axis=0, ddof=1) if len(runs) > 1 else None
        return self._bound(runs.mean(axis=0), raw.mean(axis=0), spread, method, neighbours, flags, note)

    def _bound(self, values, raw, spread, method, neighbours, flags, note) -> Score:
        widths = method.half_widths if method else self.bundle.half_widths
        low, high = (np.clip(values + sign * widths, *self.bundle.label_range) for sign in (-1, 1))
        name = method.name if method else NONE
        return Score(self.bundle.targets, values, low, high, spread, raw, name, neighbours, flags, note)

    def _name(self, number: int) -> str:
        return f"reference-{number + 1:04d}"

    def _name_neighbours(self, method: Method, lines: list[Line]) -> list[str]:
        """All neighbours of any seed and target, those of most of them first."""
        if method.neighbours == "all":
            return [ALL]
        pairs = zip(method.points, lines, strict=True)
        names = Counter(self._name(n) for points, line in pairs for point in points for n in line.order[: point["k"]])
        return sorted(names, key=lambda name: (-names[name], name))

    def _list_moves(self, method: Method | None, lines: list[Line]) -> list[dict]:
        moves = []
        for seed, points, line in zip(self.bundle.seeds, method.points if lines else [], lines, strict=False):
            for target, point in zip(self.bundle.targets, points, strict=True):
                near, cosines = line.order[: point["k"]], line.cosine[: point["k"]]
                named = {"neighbours": [self._name(n) for n in near], "similarities": [float(c) for c in cosines]}
                if method.neighbours == "all":
                    named = {"neighbours": [ALL], "similarities": []}
                moves.append({"target": target, "seed": seed} | point | named)
        return moves
