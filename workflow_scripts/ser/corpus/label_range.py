"""Labels as numbers, and the scale that they are on against the one that the config names."""

import math

from ser.files import DataError

# Labels may be on another scale if they span less of this one than half, or begin at one end and leave a quarter at the
# other, as 1 to 5 does of 1 to 7.
_SPAN, _BEGIN, _LEFT = 0.5, 0.1, 0.25


def check_range(label_range: list[float]) -> None:
    """Raise DataError where `corpus.label_range` is none."""
    if not label_range[0] < label_range[1]:
        raise DataError(
            f"config: corpus.label_range: {label_range} is no range; expected the lowest label, then the highest"
        )


def parse_label(cell: str) -> float | None:
    """A finite number, None for what is none."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in cell else None  # Python's way to group digits


def check_scale(rows: list, targets: dict[str, str], label_range: list[float], sheet) -> tuple[list[str], list[str]]:
    """What is wrong with the labels of all rows together, and what may be: problems and warnings, one at most of each.

    Args:
        rows: with `line` and `labels`
        targets: the column of each target
        label_range: lowest and highest label of the scale, `corpus.label_range`
    """
    lowest, highest = label_range
    columns = list(zip(*(row.labels for row in rows), strict=True))
    spans = {}
    for target, values in zip(targets, columns, strict=False):
        known = [value for value in values if value is not None]
        if known:
            spans[target] = (min(known), max(known))
    if not spans:
        return [], []
    low, high = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
    here = f"labels here span {low:g} to {high:g}"
    if lowest <= low and high <= highest:
        gaps = sorted([(low - lowest) / (highest - lowest), (highest - high) / (highest - lowest)])
        if sum(gaps) <= 1 - _SPAN and not (gaps[0] <= _BEGIN and gaps[1] >= _LEFT):
            return [], []
        return [], [f"{sheet}: {here}, a part of corpus.label_range {label_range}: set it, if they have another scale"]
    outside = [
        (row.line, column, value)
        for row in rows
        for column, value in zip(targets.values(), row.labels, strict=True)
        if value is not None and not lowest <= value <= highest
    ]
    line, column, value = outside[0]
    of = f"{len(outside)} of {sum(value is not None for values in columns for value in values)} lie outside"
    return [
        f"{sheet}, row {line}: {column} '{value:.15g}' is not a number from {lowest:g} to {highest:g}, which is "
        f"corpus.label_range; {here}, and {of}: set corpus.label_range to their scale, or mend the rows"
    ], []
