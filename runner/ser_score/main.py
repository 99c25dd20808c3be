"""The command `ser-score`."""

import argparse
import os
import sys
import time
from pathlib import Path

from ser_score import tables
from ser_score.audio import load
from ser_score.errors import BundleError, Rejected, UsageError
from ser_score.recordings import Recordings, find_recordings
from ser_score.scorer import Scorer
from ser_score.scores import SpeakerScores

DONE, NOTHING_SCORED, USAGE, BAD_BUNDLE = 0, 1, 2, 3
EPILOG = """Exit codes: 0 scored (what could not be is listed), 1 nothing could be scored, 2 wrong usage, 3 the bundle
cannot be used. Nothing leaves this machine."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = _parse(arguments)
    try:
        scorer = Scorer(options.bundle, threads=1 if options.recordings else options.threads, workers=options.threads)
        if options.serve:
            from ser_score.serve import serve

            serve(scorer, options.port)
            return DONE
        recordings = find_recordings(options.recordings, options.speaker, options.sheet)
        enrolled = find_recordings(options.enrol, options.speaker, None) if options.enrol else {}
        return _score(scorer, recordings, enrolled, options)
    except BundleError as error:
        return _fail(error, BAD_BUNDLE)
    except (UsageError, OSError) as error:
        return _fail(error, USAGE)
    except KeyboardInterrupt:
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("ser-score", description="Score recordings by a bundle.", epilog=EPILOG)
    parser.add_argument("bundle", type=Path, help="results/bundles/NAME.zip of a study")
    parser.add_argument("recordings", type=Path, nargs="?", help="a folder with a folder for each speaker, or one file")
    parser.add_argument("--out", type=Path, help="SCORES.csv to write, and SCORES.speakers.csv and SCORES.rejected.csv")
    parser.add_argument("--speaker", help="who speaks in the one file, or in all files of the folder")
    parser.add_argument("--sheet", type=Path, help="CSV with the columns file (inside the folder) and speaker")
    parser.add_argument("--enrol", type=Path, help="known recordings of the speakers, laid out in the same way")
    parser.add_argument("--json", action="store_true", help="JSON in place of CSV")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="processor cores to use (all)")
    parser.add_argument("--serve", action="store_true", help="open a page on this machine to try the bundle")
    parser.add_argument("--port", type=int, default=0, help="of that page (any that is free)")
    options = parser.parse_args(arguments)
    if options.serve == (options.recordings is not None):
        parser.error("name recordings to score, or --serve")
    if options.threads < 1 or not 0 <= options.port < 1 << 16:
        parser.error("--threads is 1 or more, --port at most 65535")
    return options


def _score(scorer: Scorer, recordings: Recordings, enrolled: Recordings, options: argparse.Namespace) -> int:
    bundle = scorer.bundle
    progress = _Progress(sum(map(len, recordings.values())), options.quiet)
    rows, speakers, rejected, scores = [], [], [], []
    for speaker, files in recordings.items():
        if enrolled:
            _enrol(scorer, speaker, enrolled.get(speaker, {}))
            found = _score_enrolled(scorer, speaker, files, progress.step)
        else:
            found = scorer.score_speaker(files, progress.step)
        for file, score in found.scores.items():
            rows.append(tables.describe_recording(bundle, file, speaker, score, found))
            scores.append({"file": file, "speaker": speaker} | score.to_dict())
        speakers += tables.describe_speaker(speaker, found) if found.scores else []
        rejected += [{"file": file, "speaker": speaker, "reason": reason} for file, reason in found.rejected.items()]
    progress.end()
    rejected.sort(key=lambda row: row["file"])
    if options.json:
        text = tables.format_json({"bundle": bundle.name, "scores": scores, "rejected": rejected})
    else:
        text = tables.format_table(tables.list_columns(bundle), sorted(rows, key=lambda row: row["file"]))
    if options.out:
        tables.write_text(options.out, text)
        if not options.json:
            others = {"speakers": (tables.SPEAKER_COLUMNS, speakers), "rejected": (tables.REJECTED_COLUMNS, rejected)}
            for name, (columns, own) in others.items():
                tables.write_text(options.out.with_suffix(f".{name}.csv"), tables.format_table(columns, own))
    else:
        sys.stdout.write(text)
    for row in [] if options.quiet else rejected:
        print(f"not scored: {row['file']}: {row['reason']}", file=sys.stderr)
    if not options.quiet:
        print(f"{len(rows)} recordings scored, {len(rejected)} not", file=sys.stderr)
    return DONE if rows else NOTHING_SCORED


def _enrol(scorer: Scorer, speaker: str, files: dict[str, Path]) -> None:
    for file, path in files.items():
        try:
            scorer.enrol(speaker, load(path, scorer.bundle.limits))
        except Rejected as reason:
            print(f"not enrolled: {file}: {reason}", file=sys.stderr)


def _score_enrolled(scorer: Scorer, speaker: str, files: dict[str, Path], done) -> SpeakerScores:
    """One recording after the other, with what is known of the speaker by enrolled ones."""
    scores, rejected = {}, {}
    for file, path in files.items():
        try:
            scores[file] = scorer.score(load(path, scorer.bundle.limits), speaker=speaker)
        except Rejected as reason:
            rejected[file] = str(reason)
        done()
    calibrated = any(score.calibration != "none" for score in scores.values())
    return SpeakerScores(scores, rejected, calibrated, [], None)


def _fail(error: Exception, code: int) -> int:
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(error))
    print(f"ser-score: {text}", file=sys.stderr)
    return code


class _Progress:
    """A bar on a terminal, with the rate and the time left."""

    def __init__(self, total: int, quiet: bool):
        self._total, self._count, self._start, self._shown = total, 0, time.monotonic(), 0.0
        self._on = not quiet and sys.stderr.isatty()

    def step(self) -> None:
        self._count += 1
        now = time.monotonic()
        if self._on and (now - self._shown > 0.2 or self._count == self._total):
            self._shown = now
            rate = self._count / max(now - self._start, 1e-6)
            bar = "#" * int(30 * self._count / max(self._total, 1))
            left = (self._total - self._count) / rate
            told = f"{self._count} of {self._total}, {rate:.1f} recordings a second, {left:.0f} s left"
            print(f"\r[{bar:<30}] {told}\033[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._on:
            print("\r\033[K", end="", file=sys.stderr)


def entry() -> None:
    sys.exit(main())


if __name__ == "__main__":
    entry()
