"""What was tried and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Origin:
    """Which move made a candidate (``crossover``, ``sample`` ...), and from which ordinals."""

    move: str
    parents: tuple[int, ...] = ()
    detail: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def is_baseline(self) -> bool:
        """Whether it is the base, a parent or their average, as they are."""
        return self.move in ("base", "parent", "average")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One recipe at its place in the search.

    ``genome`` is the point of the unit cube that the recipe was decoded from, where there is one.
    """

    ordinal: int
    recipe: Recipe
    origin: Origin
    genome: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """One metric of one task; higher is better, whatever the metric.

    Args:
        value: the aggregate, as lm-eval computes it (sign flipped for a minimized metric).
        stderr: its standard error; NaN where lm-eval has none.
        count: number of examples.
        examples: (count,) float32, per example and higher is better.
    """

    value: float
    stderr: float
    count: int
    examples: NDArray[np.float32]

    def __eq__(self, other: object) -> bool:
        """Exact, NaN equal to NaN: two runs of one candidate must agree to the bit."""
        if not isinstance(other, Score):
            return NotImplemented
        mine = (self.value, self.stderr, self.count)
        theirs = (other.value, other.stderr, other.count)
        return bool(
            np.array_equal(mine, theirs, equal_nan=True)
            and np.array_equal(self.examples, other.examples, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]  # holds an array


# Keyed by objective, "task/metric".
Scores = Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Scored:
    """The candidate was merged and scored."""

    candidate: Candidate
    scores: Scores


@dataclass(frozen=True, slots=True)
class Infeasible:
    """The candidate cannot be scored, now or ever; ``reason`` is for the user to read."""

    candidate: Candidate
    reason: str


Outcome = Scored | Infeasible
