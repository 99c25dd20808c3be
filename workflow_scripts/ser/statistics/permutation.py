"""Whose place a speaker takes in a control: everybody another's, nobody the own."""

import random
from collections.abc import Iterable


def draw_donors(speakers: Iterable[str]) -> dict[str, str]:
    """For each speaker another one, in one cycle through all; of one speaker alone itself. It depends on ids alone."""
    speakers = sorted(speakers)
    order = random.Random(len(speakers)).sample(speakers, len(speakers))
    return dict(zip(order, order[1:] + order[:1], strict=True))
