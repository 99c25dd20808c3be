"""A comparison of two runs as text for people."""

from collections.abc import Iterator

from ser.tracing.comparison import Change, Difference

_SHOWN = 10  # items of a change, or cells, before the rest is only counted


def format_comparison(changes: list[Change], differences: list[Difference], n_cells: int) -> str:
    """The result of `comparison.compare`, for tables of `n_cells` cells."""
    return "\n".join(_lines(changes, differences, n_cells))


def _lines(changes: list[Change], differences: list[Difference], n_cells: int) -> Iterator[str]:
    yield "Inputs that differ" if changes else "No input differs"
    for number, change in enumerate(changes):
        reached = sum(number in each.causes for each in differences)
        effect = f"can account for {reached} of the cells below" if reached else "in no cell below"
        name = f"{change.kind} {change.where}".strip()
        if list(change.items) == ["value"]:
            yield f"  {number + 1}. {_item(name, *change.items['value'])}; {effect}"
            continue
        yield f"  {number + 1}. {name}: {len(change.items)} differ; {effect}"
        yield from _shorten([f"     {_item(item, *values)}" for item, values in change.items.items()], "     ")
    yield ""
    yield f"{len(differences)} of {n_cells} cells differ"
    if not differences:
        return
    shown = [("share", "cell", "O-CCC", "A-CCC", "because of"), *map(_cell, differences)]
    yield from _align(shown[: _SHOWN + 1])
    if len(differences) > _SHOWN:
        yield f"  ... and {len(differences) - _SHOWN} more"
    yield "share: of half the width of the first run's interval, by which O-CCC or A-CCC changed"
    lost = [each for each in differences if not each.causes]
    if lost:
        yield ""
        yield f"{len(lost)} cells differ though no input does: results that are not up to date, or another machine"
        yield from _shorten([f"  {' · '.join(each.cell.values())}" for each in lost], "  ")


def _shorten(lines: list[str], indent: str) -> list[str]:
    more = [f"{indent}... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return lines[:_SHOWN] + more


def _align(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _item(name: str, before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return f"{name}: only in the {'first' if after is None else 'second'} run"
    return f"{name}: {_digest(before)} -> {_digest(after)}"


def _digest(text: str) -> str:
    return text[:12] if len(text) == 64 else text


def _cell(each: Difference) -> tuple[str, ...]:
    share = "-" if each.share is None else f"{each.share:.2f}"
    figures = [_figure(*each.figures[name]) for name in ("o_ccc", "a_ccc")]
    causes = ", ".join(str(number + 1) for number in each.causes) or "nothing"
    return share, " · ".join(each.cell.values()), *figures, causes


def _figure(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return " -> ".join("none" if value is None else f"{value:.4f}" for value in (before, after))
    return f"{before:.4f} -> {after:.4f} ({after - before:+.4f})"
