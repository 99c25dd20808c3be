"""What a reader should know first: the answers of a run in a few lines, and what makes them weak."""

import re
from collections.abc import Iterable
from statistics import median

from ser.statistics.intervals import MIN_SPEAKERS

FEW_SPEAKERS = 10  # below it, an interval over speakers is itself uncertain
LEVEL = 0.05  # of p values, adjusted for their family
WANTED = 0.01  # the size of published gains of personalisation, in A-CCC
MINUS = "\u2212"
LEARNED_NOTHING = re.compile(r"seed [\d, ]+ learned nothing")  # in a row's `encoder`


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number as text, with a true minus; a dash where there is none."""
    if value is None:
        return "\u2013"
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.replace("-", MINUS)


def format_interval(low: float | None, high: float | None) -> str:
    """An interval in brackets; nothing where there is none."""
    return "" if low is None or high is None else f"[{format_number(low)}, {format_number(high)}]"


def survives(row: dict, metric: str = "a_ccc") -> bool:
    """Whether a difference is told from chance after its family's correction."""
    p = row[f"delta_{metric}_p_adjusted"]
    return p is not None and p < LEVEL


def judge(row: dict, margin: float) -> str:
    """What may be said of a difference in A-CCC, in words."""
    if row["delta_a_ccc_p"] is None:
        return "no interval"
    if survives(row):
        return "better" if row["delta_a_ccc"] > 0 else "worse"
    bound = row["delta_a_ccc_bound"]
    return f"no difference larger than {format_number(bound)}" if bound <= margin else "too few to tell"


def answer(
    cells: list[dict], shares: list[dict], ablations: Iterable[str], baseline: str, calibration: str, margin: float
) -> list[dict]:
    """A line per test split and target: the baseline, the ablations told apart from it, and what calibration does.

    Args:
        cells, shares: rows of the ablation table and of the speaker summary
        calibration: the method that stands for calibration
        margin: the smallest difference that would matter
    """
    found = {tuple(row[key] for key in ("ablation", "calibration", "target", "split")): row for row in cells}
    helped = {tuple(row[key] for key in ("ablation", "calibration", "target", "split")): row for row in shares}
    lines = []
    for (ablation, method, target, split), row in found.items():
        if (ablation, method) != (baseline, "none") or split == "validation":
            continue
        others = [found.get((name, "none", target, split)) for name in ablations if name != baseline]
        tested = [other for other in others if other and other["delta_a_ccc_p"] is not None]
        told = [other["delta_a_ccc"] for other in tested if survives(other)]
        key = (baseline, calibration, target, split)
        moved = found.get(key)
        lines.append(
            {"target": target, "split": split, "row": row, "calibrated": moved, "shares": helped.get(key)}
            | {"compared": len(tested), "above": sum(d > 0 for d in told), "below": sum(d < 0 for d in told)}
            | {"verdict": judge(moved, margin) if moved else ""}
        )
    return lines


def count_differences(lines: list[dict]) -> dict:
    """All comparisons of `answer` together."""
    return {key: sum(line[key] for line in lines) for key in ("compared", "above", "below")}


def describe_power(cells: list[dict], seeds: int) -> list[dict]:
    """Per test split and family, the gain in A-CCC that the run could have found in four of five cases.

    The median over rows of `detectable_delta`; `wanted` are the speakers that a gain of WANTED would need, if the error
    falls with their root.
    """
    families: dict[tuple[str, str], list[dict]] = {}
    for row in cells:
        if row["family"] and row["detectable_delta"] is not None:
            families.setdefault((row["split"], row["family"]), []).append(row)
    lines = []
    for (split, family), rows in families.items():
        size, speakers = median(row["detectable_delta"] for row in rows), int(max(row["n_speakers"] for row in rows))
        line = {"split": split, "family": family, "speakers": speakers, "seeds": seeds, "detectable": size}
        lines.append(line | {"wanted": round(speakers * (size / WANTED) ** 2, -1)})
    return lines


def list_contrasts(rows: list[dict], margin: float) -> list[dict]:
    """The contrasts that were chosen beforehand, with what may be said of each."""
    return [row | {"verdict": judge(row, margin)} for row in rows if row["family"] == "primary"]


def describe_groups(rows: list[dict]) -> list[dict]:
    """Per column of groups, how many gaps were tested and told from none, and the groups too small for intervals."""
    lines = []
    for name in dict.fromkeys(row["group"] for row in rows):
        own = [row for row in rows if row["group"] == name]
        tested = [row["gap_a_ccc_p_adjusted"] for row in own if row["gap_a_ccc_p_adjusted"] is not None]
        sizes: dict[tuple[str, str], int] = {}
        for row in own:
            key = row["split"], row["value"]
            sizes[key] = max(sizes.get(key, 0), int(row["n_speakers"]))
        small = [f"{value} ({size}, {split})" for (split, value), size in sizes.items() if size < MIN_SPEAKERS]
        lines.append({"name": name, "compared": len(tested), "told": sum(p < LEVEL for p in tested), "small": small})
    return lines


def list_cautions(cells: list[dict], encoders: dict[str, dict], seeds: list[int], rejected: int) -> list[str]:
    """What a reader of the figures must know, as sentences."""
    cautions = []
    random = sorted(name for name, card in encoders.items() if card.get("weights") == "random-init")
    if random:
        cautions.append(
            f"The weights of {_join('encoder', random)} are random: figures made with them show that the workflow "
            "works and say nothing about accuracy."
        )
    trained = {(row["encoder"], row["encoder_trained_on"]) for row in cells if row.get("encoder_trained_on")}
    for name, text in sorted(trained):
        cautions.append(f"Encoder {name} was trained before on {text}: on that corpus its rows are no fair baseline.")
    speakers = {row["split"]: int(row["n_speakers"]) for row in reversed(cells)}
    few = {split: count for split, count in speakers.items() if count < FEW_SPEAKERS}
    for split, count in sorted(few.items()):
        start = f"Only {count} {'speaker counts' if count == 1 else 'speakers count'} in split {split}"
        if count < MIN_SPEAKERS:
            cautions.append(
                f"{start}: even if a method helped all of them, that could be chance. Intervals say nothing."
            )
        else:
            cautions.append(f"{start}: its intervals, drawn from so few, are themselves uncertain.")
    if len(seeds) == 1:
        cautions.append("One seed was trained: how much the figures would change with another is not known.")
    found = ((row, LEARNED_NOTHING.search(row.get("encoder") or "")) for row in cells)
    for ablation, lost in {row["ablation"]: lost[0] for row, lost in found if lost}.items():
        cautions.append(f"In fine-tuning {ablation}, {lost}; the figures are averaged over all seeds.")
    if rejected:
        word = "file was" if rejected == 1 else "files were"
        cautions.append(f"{rejected} audio {word} set aside; the reasons are below.")
    return cautions


def _join(word: str, names: list[str]) -> str:
    return f"{word}{'s' if len(names) > 1 else ''} {', '.join(names)}"
