"""The grid of settings that tuning tries: combinations of values, each laid over an ablation."""

from dataclasses import replace
from itertools import product
from pathlib import Path

from ser.config.ablation import Ablation
from ser.files import DataError, read_json

_HEADS = ("mlp", "transformer")  # the other keys of a grid are keys of `training`


def resolve_tuned(ablations: dict[str, Ablation], grid: dict[str, list]) -> dict[str, Ablation]:
    """The ablations, with `tuned` (the ablation whose best settings one takes) beside the grid that decides them.

    Raises DataError, naming the ablation, for one whose settings could not be those of the other, or without a grid.
    """
    for name, ablation in ablations.items():
        source, where = ablation.tuned, f"config: ablations: {name!r}"
        if source is None:
            continue
        if source not in ablations:
            raise DataError(f"{where}: tuned is {source!r}, expected one of {', '.join(ablations)}")
        if ablations[source].finetune:
            raise DataError(f"{where}: tuned is {source!r}, which is fine-tuned: tuning compares heads alone")
        if ablations[source].head != ablation.head:
            raise DataError(f"{where}: tuned is {source!r}, whose head is another ({ablations[source].head})")
        if len(list_points(ablation, grid)) < 2:
            raise DataError(f"{where}: tuned needs a grid of two points or more in tuning (head {ablation.head})")
    return {
        name: replace(ablation, tuned={"ablation": ablation.tuned, "grid": grid}) if ablation.tuned else ablation
        for name, ablation in ablations.items()
    }


def list_points(ablation: Ablation, grid: dict[str, list]) -> list[dict]:
    """Every combination of a grid's values, `{key: value}`; sizes of the head that an ablation has not are left out."""
    keys = [key for key in sorted(grid) if key not in _HEADS or key == ablation.head]
    return [dict(zip(keys, values, strict=True)) for values in product(*(grid[key] for key in keys))]


def apply_point(ablation: Ablation, point: dict) -> Ablation:
    """An ablation with the settings of a point."""
    training = {key: value for key, value in point.items() if key not in _HEADS}
    units = point.get(ablation.head, ablation.units)
    if isinstance(units, dict):
        units = ablation.units | units
    return replace(ablation, training=ablation.training | training, units=units)


def apply_winner(ablation: Ablation, winner: str | Path) -> Ablation:
    """An ablation with the settings that tuning found best, from its JSON."""
    return apply_point(ablation, read_json(winner)["settings"])
