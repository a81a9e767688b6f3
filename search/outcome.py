"""What was tried and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from search.recipe import Recipe


class Split(StrEnum):
    """Which examples of a task are used. Only ``search`` scores ever reach an optimizer."""

    SEARCH = "search"
    SELECT = "select"
    REPORT = "report"


# The move of a candidate that an earlier search has measured.
KEPT = "kept"


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
        value: the aggregate, as lm-eval computes it (sign flipped for a minimized metric); of a
            candidate that left early, what is expected of all examples.
        stderr: its standard error; NaN where lm-eval has none.
        count: number of examples.
        examples: (count,) float32, per example and higher is better.
        split: that the examples are of; None for all that lm-eval itself would score.
    """

    value: float
    stderr: float
    count: int
    examples: NDArray[np.float32]
    split: Split | None = Split.SEARCH

    @property
    def is_exact(self) -> bool:
        """Whether it is of the model itself, and not of a sample of what could be asked of it."""
        return self.count == 1 and self.stderr == 0

    def __eq__(self, other: object) -> bool:
        """Exact, NaN equal to NaN: two runs of one candidate must agree to the bit."""
        if not isinstance(other, Score):
            return NotImplemented
        mine = (self.value, self.stderr, self.count)
        theirs = (other.value, other.stderr, other.count)
        return self.split is other.split and bool(
            np.array_equal(mine, theirs, equal_nan=True)
            and np.array_equal(self.examples, other.examples, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]  # holds an array


# Keyed by objective, "task/metric".
Scores = Mapping[str, Score]


class HeldOutLeak(TypeError):
    """A score of the select or the report split was about to become an outcome."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The candidate was merged and scored on search examples.

    ``left_early``: it was shown to be behind before all examples; its scores are expectations.

    Raises:
        HeldOutLeak: some score is of other examples.
    """

    candidate: Candidate
    scores: Scores
    left_early: bool = False

    def __post_init__(self) -> None:
        """Whatever is told to an optimizer comes through here."""
        for key, score in self.scores.items():
            if score.split is not Split.SEARCH:
                raise HeldOutLeak(
                    f"{key} of candidate {self.candidate.ordinal} is no score on search examples, "
                    "and no optimizer may see any other"
                )


@dataclass(frozen=True, slots=True)
class Infeasible:
    """The candidate cannot be scored, now or ever; ``reason`` is for the user to read."""

    candidate: Candidate
    reason: str


Outcome = Scored | Infeasible


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Scores on examples that take no part in the search: no outcome, and no optimizer takes it.

    ``split`` is select or report, and that of every score. ``first``: they are only of so many
    first examples of each task; None for all.
    """

    candidate: Candidate
    split: Split
    scores: Scores
    first: int | None = None

    def __post_init__(self) -> None:
        """Select is for choosing, report for showing; a mixture is for neither."""
        if self.split is Split.SEARCH or any(
            s.split is not self.split for s in self.scores.values()
        ):
            raise ValueError(f"candidate {self.candidate.ordinal} has no {self.split} scores here")


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A candidate that was to be scored on ``split`` and cannot be, for ``reason``."""

    candidate: Candidate
    split: Split
    reason: str
    first: int | None = None


Confirmation = HeldOut | Unconfirmed
