"""What a reader should know first: the answers of a run in a few lines, and what makes them weak."""

from collections.abc import Iterable

FEW_SPEAKERS = 10  # below it, an interval over speakers is itself uncertain
# Fewer speakers are no evidence at 95 %, whatever their interval: five move the same way by chance in 2 of 32 cases.
LEAST_SPEAKERS = 6
MINUS = "\u2212"


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number as text, with a true minus; a dash where there is none."""
    if value is None:
        return "\u2013"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", MINUS)


def format_interval(low: float | None, high: float | None) -> str:
    """An interval in brackets; nothing where there is none."""
    return "" if low is None or high is None else f"[{format_number(low)}, {format_number(high)}]"


def answer(
    cells: list[dict], shares: list[dict], ablations: Iterable[str], baseline: str, calibration: str
) -> list[dict]:
    """A line a test split and target: the baseline, the ablations beyond chance of it, and what calibration does.

    Args:
        cells, shares: rows of the ablation table and of the speaker summary
        calibration: the method that stands for calibration
    """
    found = {tuple(row[key] for key in ("ablation", "calibration", "target", "split")): row for row in cells}
    helped = {tuple(row[key] for key in ("ablation", "calibration", "target", "split")): row for row in shares}
    lines = []
    for (ablation, method, target, split), row in found.items():
        if (ablation, method) != (baseline, "none") or split == "validation":
            continue
        others = [found.get((name, "none", target, split)) for name in ablations if name != baseline]
        deltas = [other for other in others if other and other["delta_a_ccc_low"] is not None]
        deltas = [other for other in deltas if other["n_speakers"] >= LEAST_SPEAKERS]
        key = (baseline, calibration, target, split)
        lines.append(
            {"target": target, "split": split, "row": row, "calibrated": found.get(key), "shares": helped.get(key)}
            | {"compared": len(deltas)}
            | {"above": sum(other["delta_a_ccc_low"] > 0 for other in deltas)}
            | {"below": sum(other["delta_a_ccc_high"] < 0 for other in deltas)}
        )
    return lines


def count_differences(lines: list[dict]) -> dict:
    """All comparisons of `answer` together, and how many one expects by chance where there is no difference."""
    total = {key: sum(line[key] for line in lines) for key in ("compared", "above", "below")}
    return total | {"by_chance": round(0.05 * total["compared"], 1)}


def list_cautions(cells: list[dict], encoders: dict[str, dict], seeds: list[int], rejected: int) -> list[str]:
    """What a reader of the figures must know, as sentences."""
    cautions = []
    random = sorted(name for name, card in encoders.items() if card.get("weights") == "random-init")
    if random:
        cautions.append(
            f"The weights of {_join('encoder', random)} are random: figures made with them show that the workflow "
            "works and say nothing about accuracy."
        )
    speakers = {row["split"]: int(row["n_speakers"]) for row in reversed(cells)}
    few = {split: count for split, count in speakers.items() if count < FEW_SPEAKERS}
    for split, count in sorted(few.items()):
        start = f"Only {count} {'speaker counts' if count == 1 else 'speakers count'} in split {split}"
        if count < LEAST_SPEAKERS:
            cautions.append(
                f"{start}: even if a method helped all of them, that could be chance. Intervals say nothing."
            )
        else:
            cautions.append(f"{start}: its intervals, drawn from so few, are themselves uncertain.")
    if len(seeds) == 1:
        cautions.append("One seed was trained: how much the figures would change with another is not known.")
    if rejected:
        word = "file was" if rejected == 1 else "files were"
        cautions.append(f"{rejected} audio {word} set aside; the reasons are below.")
    return cautions


def _join(word: str, names: list[str]) -> str:
    return f"{word}{'s' if len(names) > 1 else ''} {', '.join(names)}"
