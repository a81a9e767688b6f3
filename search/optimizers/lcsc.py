"""LCSC: evolution of the weights of one run's checkpoints, which may be negative and sum to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search.merit import Merit, Merits
from search.optimizer import Options, RacesOn, Task, optimizers
from search.outcome import Candidate, Origin, Outcome
from search.parent_weights import needs_weights, weighted, weights_at
from search.space import Gene
from search.spec import SearchSpec

Vector = NDArray[np.float64]

# Decays of the averages that the search starts from: of each checkpoint to the one before.
_DECAYS = (0.5, 0.8, 0.95)
# A mutation changes a weight by a normal step of so much of it, and of this besides.
_RELATIVE, _ABSOLUTE = 0.3, 0.01
_BLEND, _MUTATED = 0.5, 0.5


class LCSCOptions(Options):
    """Options of LCSC."""

    population: Annotated[int, Field(ge=4, le=1000, description="combinations that may breed")] = 20


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    ordinal: int
    weights: Vector
    merit: Merit


@optimizers.register
class LCSC:
    """Evolves linear combinations of checkpoints of one run, in the order of the spec.

    Liu et al. 2024. The authors have not published their search; this is a steady-state one: it
    starts from exponential moving averages of several decays, from averages of the last few and
    from the last; parents win a tournament among the better half; a child takes each weight from
    either, or all from between them; some weights get a normal step in proportion to their size;
    weights sum to 1, and stay in the range that the spec gives them: negative ones need a negative
    ``low``. The best is never lost.
    """

    name: ClassVar[str] = "lcsc"
    summary: ClassVar[str] = "Evolves combinations of one run's checkpoints, also negative ones."
    source: ClassVar[str] = "Liu et al. 2024, arXiv:2404.02241"
    options: ClassVar[type[Options]] = LCSCOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "preference"

    def __init__(self, task: Task, options: LCSCOptions) -> None:
        self._task = task
        self._capacity = options.population
        self._merits = Merits(task)
        self._starts = starts(len(task.space.parents))
        bounds = [g for g in task.space.genes if g.parameter == "weight" and isinstance(g, Gene)]
        self._low, self._high = bounds[0].low, bounds[0].high
        self._members: list[_Member] = []

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        index = ordinal - self._task.opening
        if index < len(self._starts) or len(self._members) < 2:
            start = self._starts[index % len(self._starts)]
            fresh = start if index < len(self._starts) else _mutated(start, rng)
            return self._candidate(ordinal, fresh, Origin("sample"))
        one, other = self._winner(rng), self._winner(rng)
        child = _mutated(_crossed(one.weights, other.weights, rng), rng)
        return self._candidate(ordinal, child, Origin("crossover", (one.ordinal, other.ordinal)))

    def tell(self, outcome: Outcome) -> None:
        values, candidate = self._merits.learn(outcome), outcome.candidate
        if values is None or candidate.ordinal < self._task.opening or candidate.genome is None:
            return
        weights = weights_at(self._task.space, candidate.genome)
        self._members.append(_Member(candidate.ordinal, weights, self._merits(values)))
        if len(self._members) > self._capacity:
            self._members.remove(min(self._members, key=lambda member: member.merit))

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: LCSCOptions) -> Mapping[str, str]:  # noqa: ARG004  # any will do
        return needs_weights(spec, dim, "lcsc combines checkpoints")

    def status(self) -> str:
        """What it is at, in a sentence."""
        if not self._members:
            return "No combination was scored yet."
        best = max(self._members, key=lambda member: member.merit)
        negative = int((best.weights < 0).sum())
        return (
            f"The best of {len(self._members)} combinations that breed has {negative} negative of "
            f"{len(best.weights)} weights."
        )

    def _candidate(self, ordinal: int, weights: Vector, origin: Origin) -> Candidate:
        summing = summing_to_one(weights, self._low, self._high)
        return self._task.candidate(ordinal, weighted(self._task.space, summing), origin)

    def _winner(self, rng: np.random.Generator) -> _Member:
        """The better of two of the better half."""
        ranked = sorted(self._members, key=lambda member: member.merit, reverse=True)
        better = max(2, len(ranked) // 2)
        return ranked[int(rng.integers(better, size=2).min())]


def starts(count: int) -> list[Vector]:
    """(count,) weights of averages over a series, the last checkpoint counting most."""
    ages = np.arange(count)[::-1]
    last = [np.where(ages < m, 1.0 / m, 0.0) for m in sorted({1, 2, max(2, count // 2), count})]
    moving = [decay**ages / (decay**ages).sum() for decay in _DECAYS]
    return [*moving, *(weights for weights in last if weights.sum() > 0)]


def _crossed(one: Vector, other: Vector, rng: np.random.Generator) -> Vector:
    """Each weight from either, or all from between the two."""
    if rng.random() < _BLEND:
        share = rng.random()
        between: Vector = share * one + (1.0 - share) * other
        return between
    return np.where(rng.random(len(one)) < 0.5, one, other)


def _mutated(weights: Vector, rng: np.random.Generator) -> Vector:
    """Some weights moved, at least one, in proportion to their size."""
    moved = rng.random(len(weights)) < _MUTATED
    moved[rng.integers(len(weights))] = True
    size = _RELATIVE * np.abs(weights) + _ABSOLUTE
    stepped: Vector = weights + moved * size * rng.standard_normal(len(weights))
    return stepped


def summing_to_one(weights: Vector, low: float, high: float) -> Vector:
    """(n,) the nearest weights that sum to 1 and lie between two bounds.

    All are moved by the same amount, as far as bounds let them; by bisection. Where no weights
    within the bounds sum to 1, those come out that come nearest.
    """
    shortest, farthest = low - weights.max(), high - weights.min()
    for _ in range(100):
        middle = 0.5 * (shortest + farthest)
        if np.clip(weights + middle, low, high).sum() < 1.0:
            shortest = middle
        else:
            farthest = middle
    return np.asarray(np.clip(weights + farthest, low, high))
