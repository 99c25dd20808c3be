"""The calibration methods that the config asks for: rows of the tables beside `none` and those with test labels."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ser.config.speaker_vectors import check_named
from ser.files import DataError

# What is chosen on validation speakers; of a method that has no use for one of them it is None.
CHOSEN = ("k", "alpha", "max_similarity")
DRAW = "/"  # `random_k/03` is draw 3 of the method random_k, or of enrolment; scores are averaged over draws


@dataclass(frozen=True)
class Method:
    """One of `calibration.methods`; see rules/config.schema.yaml for what the values mean."""

    name: str
    shift: str = "mu_sigma"
    neighbours: str = "nearest"
    similarity: str = "fused"
    weighting: str = "uniform"
    statistics: str = "averaged"
    shrinkage: bool = False
    gate: bool = False
    enrolment: int = 0
    enrolment_labels: bool = False

    @property
    def keeps_share(self) -> bool:
        """Whether a share alpha of the speaker's own statistics, of predictions or of labels, is kept."""
        return self.shrinkage or self.enrolment_labels

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
        if method.neighbours != "nearest" and (method.weighting != "uniform" or method.shrinkage or method.gate):
            raise DataError(f"{where}: weighting, shrinkage and gate go with neighbours: nearest only")
        if method.enrolment and (method.neighbours == "random" or method.gate):
            raise DataError(f"{where}: enrolment goes with neither random neighbours nor a gate")
        if method.enrolment_labels and (not method.enrolment or method.shrinkage):
            raise DataError(
                f"{where}: enrolment_labels needs enrolment, the number of labelled utterances, and goes without "
                "shrinkage, because alpha is the share of the labels"
            )
    return methods


def check_similarities(methods: Iterable[Method], vectors: Iterable[str]) -> None:
    """Raise DataError for a method that compares speakers by vectors that the config has not."""
    for method in methods:
        check_named(f"config: calibration: methods: {method.name!r}: similarity", method.similarity, vectors)


def count_enrolled(methods: Iterable[Method]) -> int:
    """The most utterances that a method enrols: so many are scored by none that enrols."""
    return max((method.enrolment for method in methods), default=0)


def count_labelled(methods: Iterable[Method]) -> int:
    """The most utterances that a method enrols with their labels; 0 if none does."""
    return count_enrolled(method for method in methods if method.enrolment_labels)


def find_counterpart(method: Method, methods: Iterable[Method]) -> Method | None:
    """The method that is like one with enrolment, but takes the statistics from all utterances, without labels."""
    without = replace(method, enrolment=0, enrolment_labels=False)
    return next((other for other in methods if replace(other, name=method.name) == without), None)


def check_studied(name: str, methods: list[Method]) -> str:
    """The method whose gain the shift study looks at; a DataError if it is none of the config's, if that has any."""
    if methods and name not in [method.name for method in methods]:
        known = ", ".join(method.name for method in methods)
        raise DataError(f"config: evaluation: shift_calibration: {name!r} is none of calibration.methods ({known})")
    return name
