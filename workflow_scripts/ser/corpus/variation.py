"""Whether anything can be chosen by the labels of validation speakers: known from the sheet, before any work."""

import csv
from collections import Counter, defaultdict
from pathlib import Path

from ser.files import DataError


def check_validation(labels: Path, targets: list[str], min_utterances: int, constant_labels: str) -> None:
    """Raise DataError where no validation speaker counts in A-CCC by its labels, so that no calibration can be chosen.

    Args:
        labels: the validation split's, as the index cut them out; nothing is said where they are of other targets
        min_utterances, constant_labels: see `evaluation` in the config
    """
    counts: Counter[str] = Counter()  # utterances of each speaker
    different = defaultdict(set)  # labels of a speaker and target
    open_targets = set(targets if constant_labels == "omit" else ())  # with no speaker that counts so far
    with open(labels, encoding="utf-8", newline="") as file:
        header = next(rows := csv.reader(file))
        if not set(targets) <= set(header):
            return
        for row in rows:
            speaker = row[1]
            counts[speaker] += 1
            for target in open_targets:
                different[speaker, target].add(row[header.index(target)])
            if counts[speaker] >= min_utterances:
                open_targets = {target for target in open_targets if len(different[speaker, target]) < 2}
                if not open_targets:  # after some hundreds of rows, in most corpora
                    return
    least = f"{min_utterances} utterances (config: evaluation.min_utterances)"
    if (most := max(counts.values(), default=0)) < min_utterances:
        raise DataError(
            f"no validation speaker has {least}, so that k cannot be chosen: they have {most} at "
            "most; set it to that or less, or leave calibration out (calibration: {methods: []})"
        )
    raise DataError(
        f"no validation speaker with {least} has two different {min(open_targets)} labels, so that k cannot be chosen: "
        "leave it out of corpus.targets, or leave calibration out (calibration: {methods: []})"
    )
