"""How forward passes are made, and how fast each way was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Another way than the usual has to save so much of its time: less is noise, and the same search
# on the same machine should find the same.
_GAIN = 0.2


@dataclass(frozen=True, slots=True)
class Batching:
    """How forward passes are made.

    Args:
        tokens: of one pass, padding counted.
        threads: of the CPU.
    """

    tokens: int
    threads: int


@dataclass(frozen=True, slots=True)
class Pacing:
    """Forward passes that were timed.

    Args:
        batching: the best way for a suite on a device.
        device: on which they were timed.
        seconds: that each way took for the same requests; empty where too little is asked.
    """

    batching: Batching
    device: str
    seconds: Mapping[Batching, float]


def fastest(seconds: Mapping[Batching, float], usual: Batching) -> Batching:
    """The way that took least; the usual one unless that is clearly slower."""
    best = min(seconds, key=lambda one: seconds[one])
    return best if seconds[best] < (1 - _GAIN) * seconds[usual] else usual
