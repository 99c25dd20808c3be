"""What every reader of audio keeps to: limits, the part that is wanted, and the reason why a file cannot be used."""

from dataclasses import dataclass

import numpy as np

BLOCK_VALUES = 1 << 20  # decoded at a time and mixed down, so that channels never multiply a long file's memory
# What no speech is recorded at: a header that claims more makes megabytes of a file into gigabytes of memory.
LOWEST_RATE, HIGHEST_RATE, MOST_CHANNELS = 4_000, 384_000, 64
LATE = 0.01  # s by which a part may end after its file: sheets round


class Rejected(Exception):
    """Audio that cannot be used; the message is the reason: one line, the same on every machine."""


@dataclass(frozen=True)
class Sound:
    """A recording, or a part of it, at its own rate."""

    mono: np.ndarray  # the mean over channels, (n,) float32
    rate: int  # Hz
    channels: int
    loudest: float  # the largest absolute value of any channel
    note: str = ""  # what a user should know of it


@dataclass(frozen=True)
class Span:
    """How long a recording is by a count of its frames or pages, seconds: to one of them, with and without delays."""

    low: float
    high: float

    def __contains__(self, seconds: float) -> bool:
        return self.low - 1e-6 <= seconds <= self.high + 1e-6


@dataclass(frozen=True)
class Part:
    """What is wanted of a file: from `start` to `stop` (seconds; None: to its end), `longest` seconds at most."""

    start: float
    stop: float | None
    longest: float

    def find_first(self, rate: int) -> int:
        return round(self.start * rate)

    def find_end(self, total: int, rate: int) -> int:
        """The frame before which the part ends in a file of `total` frames; Rejected if it is not in the file."""
        end = total if self.stop is None else round(self.stop * rate)
        first = self.find_first(rate)
        if end > total + LATE * rate or first >= max(total, 1):
            part = f"the part from {self.start:g} to {end / rate:g} s"
            raise Rejected(f"the file ends at {total / rate:.3f} s, before {part}")
        return min(end, total)

    def find_most(self, rate: int) -> float:
        """Frames from the beginning of the file, more than which are not wanted, or not allowed."""
        return self.find_first(rate) + self.longest * rate if self.stop is None else round(self.stop * rate)

    def check_length(self, count: int, rate: int) -> None:
        if count / rate > self.longest:
            raise Rejected(f"too long: {count / rate:.3f} s, expected at most {self.longest:g} s")


def check_header(rate: int, channels: int) -> None:
    """Reject what no speech is recorded with."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise Rejected(f"{rate} Hz, expected {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    if channels > MOST_CHANNELS:
        raise Rejected(f"{channels} channels, expected {MOST_CHANNELS} at most")
