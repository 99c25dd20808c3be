"""What the config and the files that are asked for say together, before any work."""

import re
from collections.abc import Iterable

from ser.config.ablation import Ablation
from ser.config.tuning_grid import apply_point, list_points
from ser.files import DataError

_TARGET = re.compile(r"results/(tuning|scored|bundles)/([^/.]+)\.(?:csv|json|zip|speakers\.csv|rejected\.csv)")
# What an entry of a section says.
_SECTIONS = {
    "scored": "the folder of the recordings and an ablation; see docs/recordings.md",
    "bundles": "an ablation and a calibration; see docs/bundles.md",
}


def check_heads(ablations: dict[str, Ablation], grid: dict[str, list]) -> None:
    """Raise DataError for a transformer head, of an ablation or of a point of its tuning, that cannot be built."""
    for name, ablation in ablations.items():
        if not ablation.reads_frames:
            continue
        _check_head(ablation, f"config: ablations: {name!r}", "heads")
        for point in [] if ablation.finetune else list_points(ablation, grid):
            _check_head(apply_point(ablation, point), f"config: tuning: a point of ablation {name!r}", "tuning")


def _check_head(ablation: Ablation, where: str, section: str) -> None:
    width, heads = ablation.units["width"], ablation.units["attention_heads"]
    if width % heads:
        raise DataError(
            f"{where} has a transformer head of width {width}, which is no multiple of its attention_heads, {heads} "
            f"({section}.transformer)"
        )


def check_targets(
    targets: Iterable[str], ablations: dict[str, Ablation], grid: dict[str, list], sections: dict[str, Iterable[str]]
) -> None:
    """Raise DataError for a file of tuning, of scored recordings or of a bundle that the config does not describe.

    Args:
        targets: what Snakemake is asked for; other files pass
        sections: the names in the sections `scored` and `bundles`
    """
    for kind, name in (found.groups() for target in targets if (found := _TARGET.fullmatch(target))):
        where = f"results/{kind}/{name}"
        if kind in sections:
            if name not in sections[kind]:
                known = ", ".join(sorted(sections[kind])) or "nothing"
                raise DataError(
                    f"{where}: the config's section {kind} has no {name!r}, but {known}: name there {_SECTIONS[kind]}"
                )
        elif not grid:
            raise DataError(f"{where}: the config has no section tuning, with values to try; see docs/tuning.md")
        elif name not in ablations:
            raise DataError(f"{where}: {name!r} is none of the config's ablations: {', '.join(ablations)}")
        elif ablations[name].finetune:
            raise DataError(f"{where}: ablation {name!r} is fine-tuned, and tuning compares heads alone")
