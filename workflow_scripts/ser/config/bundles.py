"""The bundles that a config names, checked: what cannot be scored elsewhere is refused, with the reason."""

from ser.config.ablation import Ablation
from ser.config.calibration_methods import Method, find_counterpart
from ser.files import DataError

SPEAKERS = ("none", "mfcc")  # what a runner can compute of audio
COMPARED = ("fused", "encoder", "mfcc")


def check_bundles(
    bundles: dict[str, dict], ablations: dict[str, Ablation], methods: list[Method], seeds: list[int]
) -> dict[str, dict]:
    """The `bundles` section with the seeds filled in; a DataError names what cannot be bundled, and why."""
    known = {method.name: method for method in methods}
    for name, settings in bundles.items():
        where = f"config: bundles.{name}"
        for key, allowed in {"ablation": list(ablations), "calibration": ["none", *known]}.items():
            if settings[key] not in allowed:
                raise DataError(f"{where}: {key} is {settings[key]!r}, expected one of {', '.join(allowed)}")
        strange = sorted(set(settings["seeds"]) - set(seeds))
        if strange:
            raise DataError(f"{where}: seeds has {strange[0]}, expected some of {', '.join(map(str, seeds))}")
        for fault in list_faults(ablations[settings["ablation"]], known.get(settings["calibration"], Method("none"))):
            raise DataError(f"{where}: {fault}")
    return {name: settings | {"seeds": settings["seeds"] or seeds} for name, settings in bundles.items()}


def list_faults(ablation: Ablation, method: Method) -> list[str]:
    """Why an ablation with a calibration cannot be bundled."""
    faults = []
    if ablation.speaker == "mfcc_permuted":
        faults.append(
            "ablation has speaker: mfcc_permuted, a control with another speaker's vector; elsewhere is no other"
        )
    elif ablation.speaker not in SPEAKERS:
        faults.append(f"ablation has speaker: {ablation.speaker}, which a bundle's runner cannot compute of audio")
    if ablation.normalise or ablation.attended:
        faults.append(f"ablation is {ablation.describe_speaker()}, which a bundle's runner does not do")
    if (ablation.finetune or {}).get("vectors") == "tuned":
        faults.append("ablation has finetune: vectors: tuned, others for each seed; a bundle has one set of them")
    if method.neighbours == "random":
        faults.append(f"calibration is {method.name!r}, a control with random neighbours")
    if method.similarity not in COMPARED:
        faults.append(f"calibration compares {method.similarity}, which a bundle's runner cannot compute of audio")
    return faults


def list_bundled(method: Method, methods: list[Method]) -> list[Method]:
    """The methods that a bundle has: the calibration's, and those that do the same with enrolled utterances."""
    if method.enrolment:
        return [method]
    return [method, *(other for other in methods if other.enrolment and find_counterpart(other, methods) == method)]
