"""The calibration methods that the config asks for: rows of the tables beside `none` and those with test labels."""

from collections.abc import Iterable
from dataclasses import dataclass

from ser.files import DataError

DRAW = "/"  # `random_k/03` is draw 3 of the method random_k; scores are averaged over draws


@dataclass(frozen=True)
class Method:
    """One of `calibration.methods`; see rules/config.schema.yaml for what the values mean."""

    name: str
    shift: str = "mu_sigma"
    neighbours: str = "nearest"
    similarity: str = "fused"
    weighting: str = "uniform"
    shrinkage: bool = False
    enrolment: int = 0

    def owns(self, calibration: str) -> bool:
        """Whether a `calibration` cell of the calibrated predictions is this method or a draw of it."""
        return calibration.split(DRAW)[0] == self.name


def read_methods(entries: Iterable[dict]) -> list[Method]:
    """The methods of the config, in its order; a DataError names one that contradicts itself."""
    methods = [Method(**entry) for entry in entries]
    names = [method.name for method in methods]
    for method in methods:
        where = f"config: calibration: methods: {method.name!r}"
        if names.count(method.name) > 1:
            raise DataError(f"{where} is there twice")
        if method.enrolment and method.similarity != "fused":
            raise DataError(f"{where}: enrolment compares the fused vectors; similarity is {method.similarity!r}")
        if method.neighbours != "nearest" and (method.weighting != "uniform" or method.shrinkage):
            raise DataError(f"{where}: weighting and shrinkage go with neighbours: nearest only")
    return methods


def check_studied(name: str, methods: list[Method]) -> str:
    """The method whose gain the shift study looks at; a DataError if it is none of the config's, if that has any."""
    if methods and name not in [method.name for method in methods]:
        known = ", ".join(method.name for method in methods)
        raise DataError(f"config: evaluation: shift_calibration: {name!r} is none of calibration.methods ({known})")
    return name
