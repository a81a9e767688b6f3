"""Genes: what a number in [0, 1] stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Choice:
    """One searched value among some: of a parameter, the method, or whether to include a parent.

    It belongs to a block or a group of them, named by the first, or to all (`EVERYWHERE`). Choices
    have equal parts of [0, 1], or as large ones as ``shares`` says, which add up to 1.
    """

    block: int
    parameter: str
    parent: int | None
    choices: tuple[Any, ...]
    shares: tuple[float, ...] = ()

    def value(self, unit: float) -> Any:
        """The choice whose part of [0, 1] a point lies in."""
        return self.choices[int(self.places(np.array([unit]))[0])]

    def places(self, units: NDArray[np.float64]) -> NDArray[np.int64]:
        """(n,) points to (n,) numbers of the choices in whose parts they lie."""
        count = len(self.choices)
        if self.shares:
            found = np.searchsorted(np.cumsum(self.shares[:-1]), units, side="right")
        else:
            found = np.floor(units * count)
        return np.clip(found, 0, count - 1).astype(np.int64)

    def unit(self, value: Any) -> float:
        """The middle of a choice's part; of numbers, that of the nearest."""
        if value in self.choices:
            place = self.choices.index(value)
        elif isinstance(value, float) and all(isinstance(c, int | float) for c in self.choices):
            place = min(range(len(self.choices)), key=lambda i: abs(self.choices[i] - value))
        else:
            place = 0
        shares = self.shares or (1.0 / len(self.choices),) * len(self.choices)
        return sum(shares[:place]) + shares[place] / 2


@dataclass(frozen=True, slots=True)
class Gene:
    """One searched coefficient: a parameter in a group of blocks, for one parent or for all.

    ``block`` is the one that it decides on alone, or `EVERYWHERE`.
    """

    block: int
    parameter: str
    parent: int | None
    low: float
    high: float
    log: bool

    def value(self, unit: float) -> float:
        """Map [0, 1] onto the range; strictly increasing, both bounds exact."""
        if unit <= 0.0:
            return self.low
        if unit >= 1.0:
            return self.high
        if self.log:
            return math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        return self.low + unit * (self.high - self.low)

    def unit(self, value: float) -> float:
        """Inverse of ``value``; values outside of the range go to the nearer bound."""
        clipped = min(max(value, self.low), self.high)
        if self.log:
            return (math.log(clipped) - math.log(self.low)) / (
                math.log(self.high) - math.log(self.low)
            )
        return (clipped - self.low) / (self.high - self.low)
