"""Problems whose best front is known well enough to measure a search against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymoo.problems import get_problem

from search.bench.digits import DigitsMerge, rotated, split
from search.pareto import front, hypervolume
from search.trial import MergeProblem

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# A merge problem's front: the best of so many points on a grid, and of so many steps from its front
# that get smaller.
_GRID, _STEPS, _ROUNDS = 7_000, 10_000, 10
_STEP, _SHRINK = 0.06, 0.75
# Of the published functions: how far beyond the worst of the front volume is measured from.
_MARGIN = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class KnownProblem:
    """A problem with what the best of all searches could reach.

    Args:
        name: of the problem.
        problem: to be searched.
        reference: (objectives,) above which volume counts.
        volume: of the best front that is known; a lower bound where it was searched for.
    """

    name: str
    problem: MergeProblem
    reference: Vector
    volume: float

    def share(self, points: ArrayLike) -> float:
        """Volume of (n, objectives) points in parts of what can be reached."""
        return hypervolume(points, self.reference) / self.volume


@dataclass(frozen=True, slots=True, eq=False)
class PublishedFunction:
    """A test function of the literature, turned around to be maximized over the unit cube."""

    function: Any  # pymoo has no types

    @property
    def n(self) -> int:
        """Number of variables."""
        return int(self.function.n_var)

    def __call__(self, coefficients: Vector, /) -> ArrayLike:
        low, high = self.function.xl, self.function.xu
        return np.asarray(-self.function.evaluate(low + coefficients * (high - low)))


def _merge(problem: DigitsMerge) -> KnownProblem:
    reference = problem.reference
    best = _searched_front(problem, reference)
    return KnownProblem(problem.name, problem, reference, hypervolume(best, reference))


def _published(name: str, **settings: int) -> KnownProblem:
    function = get_problem(name, **settings)
    best = -function.pareto_front()
    reference = best.min(axis=0) - _MARGIN * np.ptp(best, axis=0)
    return KnownProblem(name, PublishedFunction(function), reference, hypervolume(best, reference))


# By name: from a seed (of the networks, where there are any) to a problem.
PROBLEMS: dict[str, Callable[[int], KnownProblem]] = {
    "split-2": lambda seed: _merge(split(2, seed)),
    "split-4": lambda seed: _merge(split(4, seed)),
    "rotated-2": lambda seed: _merge(rotated(2, seed)),
    "rotated-3": lambda seed: _merge(rotated(3, seed)),
    "rotated-4": lambda seed: _merge(rotated(4, seed)),
    "zdt1": lambda _: _published("zdt1", n_var=6),
    "zdt2": lambda _: _published("zdt2", n_var=6),
    "zdt3": lambda _: _published("zdt3", n_var=6),
    "zdt4": lambda _: _published("zdt4", n_var=4),
    "dtlz2": lambda _: _published("dtlz2", n_var=6, n_obj=3),
    "dtlz7": lambda _: _published("dtlz7", n_var=6, n_obj=3),
}


def _searched_front(problem: DigitsMerge, reference: Vector) -> Matrix:
    """(m, n) the best that tens of thousands of evaluations find above the reference."""
    rng = np.random.default_rng(0)
    axis = np.linspace(0, 1, int(_GRID ** (1 / problem.n)))
    genomes = np.stack(np.meshgrid(*[axis] * problem.n), axis=-1).reshape(-1, problem.n)
    values = np.array([problem(genome) for genome in genomes])
    for number in range(_ROUNDS):
        useful = np.flatnonzero((values > reference).all(axis=1))
        best = useful[front(values[useful])] if len(useful) else front(values)
        genomes, values = genomes[best], values[best]
        start = genomes[rng.integers(len(genomes), size=_STEPS // _ROUNDS)]
        step = _STEP * _SHRINK**number * rng.standard_normal(start.shape)
        moved = np.clip(start + step, 0.0, 1.0)
        genomes = np.concatenate((genomes, moved))
        values = np.concatenate((values, np.array([problem(genome) for genome in moved])))
    return values
