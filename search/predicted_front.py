"""Quadratic surrogates of all metrics, their front by NSGA-III, and what is worth a look there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.core.problem import Problem
from pymoo.optimize import minimize
from pymoo.util.ref_dirs import get_reference_directions
from scipy.spatial.distance import cdist

from search.constraints import Constraints
from search.optimizer import Task
from search.outcome import KEPT, Outcome, Scored
from search.pareto import first_front, hypervolume, reference_point
from search.space import Genome, SearchSpace
from search.surrogate import (
    Surrogate,
    fit,
    left_out_error,
    left_out_r2,
    link_for,
    shapes_for,
)
from search.threads import one_thread

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# Exact hypervolumes get slow with the number of objectives.
_MOST_OBJECTIVES_FOR_HYPERVOLUME = 4
# Genomes nearer than this are one and the same model for all that scores can tell.
_SAME = 1e-3
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Evolution:
    """How long NSGA-III looks for a front: members, generations."""

    population: int
    generations: int


class PredictedFront:
    """Learns from outcomes which genomes promise to extend the front.

    The front is looked for inside of the cube, where what was sampled lies: a quadratic means
    nothing outside (beyond two tasks the published box of [-3, 3] finds nothing at all).
    """

    def __init__(self, task: Task, evolution: Evolution) -> None:
        self._task = task
        self._evolution = evolution
        self._constraints = task.constraints()
        self._baselines: list[tuple[str, Vector]] = []
        self._genomes: list[Genome] = []
        self._values: list[Vector] = []
        self._counts: tuple[int, ...] = ()
        self._fitted: tuple[int, tuple[Surrogate, ...]] = (0, ())

    def __len__(self) -> int:
        """How many outcomes it learned from."""
        return len(self._values)

    @property
    def genomes(self) -> Matrix:
        """(n, dim) what it learned from."""
        return np.reshape(self._genomes, (-1, self._task.space.dim))

    @property
    def values(self) -> Matrix:
        """(n, objectives) scores of these genomes."""
        return np.reshape(self._values, (-1, len(self._task.objectives)))

    def learn(self, outcome: Outcome) -> None:
        """Take note of the next outcome."""
        values, candidate = self._task.values(outcome), outcome.candidate
        self._constraints.learn(candidate.ordinal, values)
        if values is None or not isinstance(outcome, Scored):
            return
        if candidate.ordinal < self._task.opening and candidate.origin.move != KEPT:
            self._baselines.append((candidate.origin.move, values))
        if candidate.genome is not None:
            self._genomes.append(np.array(candidate.genome))
            self._values.append(values)
            self._counts = tuple(outcome.scores[o.key].count for o in self._task.objectives)

    def predict(self, genomes: Matrix) -> Matrix:
        """(n, dim) genomes to (n, objectives) predicted scores."""
        return np.stack([surrogate(genomes) for surrogate in self._surrogates()], axis=1)

    def choose(self, rng: np.random.Generator, waiting: Matrix) -> Genome:
        """What to look at next, given (n, dim) genomes that are in flight.

        Of the predicted front what is predicted to violate constraints least, and of that what adds
        most hypervolume to the known front and to what is predicted of genomes in flight; where
        nothing adds any, what is farthest from all known genomes.
        """
        with one_thread():
            genomes = self._front(rng)
            predicted = self.predict(genomes)
            have = self.values
            have = have[first_front(have, self._constraints.violation(have))]
            if len(waiting):
                have = np.concatenate((have, self.predict(waiting)))
        distance = cdist(genomes, np.concatenate((self.genomes, waiting))).min(axis=1)
        missed = self._constraints.violation(predicted)
        gains = np.maximum(_gains(have, predicted, self._reference(predicted)), 0.0)
        chosen = np.lexsort((-distance, -gains, missed, distance < _SAME))[0]
        genome: Genome = genomes[chosen]
        return genome

    def quality(self) -> str:
        """What its predictions are worth, by objective: in words that a user can weigh."""
        if len(self) < 2:
            return "no fit yet"
        with one_thread():
            surrogates = self._surrogates()
        return quality(surrogates, self.values[: self._fitted[0]], self._task)

    def _surrogates(self) -> tuple[Surrogate, ...]:
        """One per objective.

        Fits cost more the more is known, and change less: up to a fiftieth of what was told waits.
        """
        told = len(self._values)
        known = told - told % max(1, told // 50)
        if self._fitted[0] != known:
            genomes, values = self.genomes[:known], self.values[:known]
            shapes = shapes_for(_alike(self._task.space), known)
            surrogates = (
                fit(genomes, metric, link_for(metric, count), shapes)
                for metric, count in zip(values.T, self._counts, strict=True)
            )
            self._fitted = (known, tuple(surrogates))
        return self._fitted[1]

    def _front(self, rng: np.random.Generator) -> Matrix:
        """(n, dim) genomes at which NSGA-III ends, started on the surrogates from the front."""
        values, dim = self.values, self._task.space.dim
        directions = _directions(values.shape[1], self._evolution.population)
        size = max(self._evolution.population, len(directions))
        on_front = first_front(values, self._constraints.violation(values))
        best = self.genomes[on_front][-size // 2 :]
        start = np.concatenate((best, rng.random((size - len(best), dim))))
        found = minimize(
            _Predicted(self.predict, self._constraints, dim, values.shape[1]),
            NSGA3(directions, pop_size=size, sampling=start),
            ("n_gen", self._evolution.generations),
            seed=int(rng.integers(2**31)),
        )
        genomes: Matrix = np.clip(found.pop.get("X"), 0.0, 1.0)
        return genomes

    def _reference(self, predicted: Matrix) -> Vector:
        """(objectives,) the point above which trade-offs are sought.

        What must be reached, where that is known. Else a tenth of the baselines' span below the
        worse of base and average, rather than below the worst parent: what a specialist gives up
        for its own task is known already. Of these the first that anything predicted lies above;
        the worst parent's, where nothing does. Never below what the constraints demand.
        """
        points = np.stack([values for _, values in self._baselines] or self._values)
        shared = [values for move, values in self._baselines if move in ("base", "average")]
        worst = reference_point(points)
        near: Vector = np.min(shared or points, axis=0) - (points.min(axis=0) - worst)
        wanted = [near] if self._task.floor is None else [self._task.floor, near]
        reached = (r for r in wanted if (predicted > r).all(axis=1).any())
        return np.maximum(next(reached, worst), self._constraints.low)


def quality(surrogates: tuple[Surrogate, ...], values: Matrix, task: Task) -> str:
    """Left-out error and R2 of surrogates of (n, objectives) scores, in words; the worst three."""
    found = [
        (left_out_r2(metric, s.left_out), left_out_error(metric, s.left_out), objective.key)
        for objective, s, metric in zip(task.objectives, surrogates, values.T, strict=True)
    ]
    worst = sorted(found, key=lambda one: np.inf if isnan(one[0]) else one[0])[:_MOST_NAMED]
    parts = [
        f"{error:.2g} in {key} ({'all scores alike' if isnan(r2) else f'R² {r2:.2f}'})"
        for r2, error, key in worst
    ]
    rest = len(found) - len(parts)
    return f"each of {len(values)} outcomes predicted from the others, they err by " + ", ".join(
        [*parts, *([f"less in {rest} more"] if rest else [])]
    )


class _Predicted(Problem):  # type: ignore[misc]  # pymoo has no types
    """The surrogates as something to be minimized by pymoo."""

    def __init__(
        self,
        predict: Callable[[Matrix], Matrix],
        constraints: Constraints,
        dim: int,
        objectives: int,
    ) -> None:
        limits = 1 if constraints else 0
        super().__init__(n_var=dim, n_obj=objectives, n_ieq_constr=limits, xl=0.0, xu=1.0)
        self._predict = predict
        self._constraints = constraints

    def _evaluate(self, x: Matrix, out: dict[str, Matrix], *_args: Any, **_kwargs: Any) -> None:
        predicted = self._predict(x)
        out["F"] = -predicted
        if self._constraints:
            out["G"] = self._constraints.violation(predicted)[:, None]


def _directions(objectives: int, most: int) -> Matrix:
    """NSGA-III's reference directions: the finest set of at most so many, or the coarsest."""
    partitions = 1
    while partitions < most and comb(objectives + partitions, partitions + 1) <= most:
        partitions += 1
    directions: Matrix = get_reference_directions("das-dennis", objectives, n_partitions=partitions)
    return directions


def _gains(have: Matrix, predicted: Matrix, reference: Vector) -> Vector:
    """(n,) what each of (n, objectives) predictions adds to the points of a front.

    Hypervolume where that is quick. Else by how much a prediction stands out: the smallest gap over
    all points of the front of the largest gain among the objectives; negative where dominated.
    """
    if have.shape[1] > _MOST_OBJECTIVES_FOR_HYPERVOLUME:
        scale = np.ptp(np.vstack((have, predicted)), axis=0)
        gaps = (predicted[:, None] - have) / np.where(scale > 0, scale, 1.0)
        lead: Vector = gaps.max(axis=2).min(axis=1)
        return lead
    volume = hypervolume(have, reference)
    joint = [hypervolume(np.vstack((have, point)), reference) for point in predicted]
    return np.array(joint) - volume


def _alike(space: SearchSpace) -> list[list[int]]:
    """Genes in groups that do the same thing to different blocks: one parameter of one parent."""
    groups: dict[tuple[str, int | None], list[int]] = {}
    for index, gene in enumerate(space.genes):
        groups.setdefault((gene.parameter, gene.parent), []).append(index)
    return list(groups.values())
