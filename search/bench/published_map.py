"""MAP as its authors published it, to be measured against; `search.optimizers.map` is ours."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.optimize import minimize
from pymoo.util.ref_dirs import get_reference_directions
from scipy.optimize import least_squares

from search.optimizer import Options, RacesOn, Task, needs_genes
from search.outcome import Candidate, Origin, Outcome, Scored
from search.pareto import front
from search.space import Genome
from search.spec import SearchSpec
from search.surrogate import Link, link_for

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

_POPULATION, _GENERATIONS = 100, 25
# Layers of reference directions: divisions of an edge, and size.
_DIRECTIONS = ((2, 1.0), (1, 0.5))


class PublishedMAP:
    """Fits once, and then evaluates the front that was predicted.

    Li et al. 2024 (arXiv:2406.07529) as their program has it: (n + 1)(n + 2) design points, which
    are the parents and a random part of a lattice; a quadratic for each metric by nonlinear least
    squares from all ones, without a ridge; NSGA-III with a population of 100 for 25 generations.
    What differs makes it run here, and runs in its favour: the box is [0, 1] rather than [-3, 3],
    the link follows the metric, and the front's members are evaluated, well spread ones first.
    """

    name: ClassVar[str] = "map_published"
    summary: ClassVar[str] = "MAP as published: one fit, then the front that it predicts."
    source: ClassVar[str] = "Li et al. 2024, arXiv:2406.07529"
    options: ClassVar[type[Options]] = Options
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, _options: Options) -> None:
        dim = task.space.dim
        self._task = task
        self._design = _lattice((dim + 1) * (dim + 2) - dim, dim, task.generator(0))
        self._genomes: list[Genome] = []
        self._values: list[Vector] = []
        self._counts: tuple[int, ...] = ()
        self._front: tuple[int, Matrix] | None = None

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        index = ordinal - self._task.opening
        if index < len(self._design):
            return self._task.candidate(ordinal, self._design[index], Origin("sample"))
        if len(self._values) < 2:
            return self._task.candidate(ordinal, rng.random(self._task.space.dim), Origin("sample"))
        found = self._predicted_front()
        genome = found[(index - len(self._design)) % len(found)]
        return self._task.candidate(ordinal, genome, Origin("predicted_front"))

    def tell(self, outcome: Outcome) -> None:
        values = self._task.values(outcome)
        fitted = outcome.candidate.ordinal < self._task.opening + len(self._design)
        if values is None or not isinstance(outcome, Scored) or not fitted:
            return
        if outcome.candidate.genome is not None:
            self._genomes.append(np.array(outcome.candidate.genome))
            self._values.append(values)
            self._counts = tuple(outcome.scores[o.key].count for o in self._task.objectives)

    def status(self) -> str:
        return "Evaluates the front that one fit predicts."

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: Options) -> Mapping[str, str]:  # noqa: ARG004  # only genes matter
        return needs_genes(dim)

    def _predicted_front(self) -> Matrix:
        """(n, dim) the genomes of the predicted front, in the order of their evaluation."""
        known = len(self._values)
        if self._front is None or self._front[0] != known:
            genomes, values = np.stack(self._genomes), np.stack(self._values)
            links = [link_for(v, c) for v, c in zip(values.T, self._counts, strict=True)]
            fits = [_fit(genomes, v, link) for v, link in zip(values.T, links, strict=True)]

            def predict(points: Matrix) -> Matrix:
                made = _features(points)
                found = [link.to_metric(made @ c) for link, c in zip(links, fits, strict=True)]
                return np.stack(found, axis=1)

            seed = int(self._task.generator(1).integers(2**31))
            self._front = (known, _front(predict, genomes.shape[1], values.shape[1], seed))
        return self._front[1]


class _Predicted(Problem):  # type: ignore[misc]  # pymoo has no types
    """The surrogates as something to be minimized by pymoo, and all points that it looked at."""

    def __init__(self, predict: Any, dim: int, objectives: int) -> None:
        super().__init__(n_var=dim, n_obj=objectives, xl=0.0, xu=1.0)
        self._predict = predict
        self.seen: list[Matrix] = []

    def _evaluate(self, x: Matrix, out: dict[str, Matrix], *_args: Any, **_kwargs: Any) -> None:
        self.seen.append(np.clip(x, 0.0, 1.0))
        out["F"] = -self._predict(x)


def _lattice(count: int, dim: int, rng: np.random.Generator) -> Matrix:
    """(at most count, dim) of a regular lattice that is twice as large, in random order.

    Without the parents, which are measured anyway, and points of equal or of normed coordinates.
    """
    steps = max(int(np.ceil((count / 0.5) ** (1 / dim))), 2)
    axis = np.linspace(0, 1, steps)
    most = min(steps**dim, 100_000)
    points = np.array(list(itertools.islice(itertools.product(axis, repeat=dim), most)))
    proper = (np.ptp(points, axis=1) > 0) & ~np.isclose(points.sum(axis=1), 1.0)
    chosen = points[proper] if dim > 1 else points
    return np.asarray(chosen[rng.permutation(len(chosen))[:count]])


def _features(points: Matrix) -> Matrix:
    """(n, dim) to squares, products, coordinates and one."""
    i, j = np.triu_indices(points.shape[1], k=1)
    ones = np.ones((len(points), 1))
    return np.concatenate((points**2, points[:, i] * points[:, j], points, ones), axis=1)


def _fit(genomes: Matrix, metric: Vector, link: Link) -> Vector:
    """(features,) of least squares on the metric's own scale."""
    made = _features(genomes)

    def residual(coefficients: Vector) -> Vector:
        return np.asarray(link.to_metric(made @ coefficients) - metric)

    solvable = len(made) >= made.shape[1]  # which Levenberg-Marquardt asks for
    found = least_squares(residual, np.ones(made.shape[1]), method="lm" if solvable else "trf")
    return np.asarray(found.x)


def _front(predict: Any, dim: int, objectives: int, seed: int) -> Matrix:
    layers = [
        get_reference_directions("das-dennis", objectives, n_partitions=count, scaling=scaling)
        for count, scaling in _DIRECTIONS
    ]
    predicted = _Predicted(predict, dim, objectives)
    minimize(
        predicted,
        NSGA3(
            get_reference_directions("multi-layer", *layers),
            pop_size=_POPULATION,
            crossover=SBX(prob=0.7, eta=20),
            mutation=PM(prob=0.3, eta=20),
        ),
        ("n_gen", _GENERATIONS),
        seed=seed,
    )
    genomes = np.concatenate(predicted.seen)  # the "hall of fame" is of all generations
    values = predict(genomes)
    best = front(values)
    return np.asarray(genomes[best][_spread_order(values[best])])


def _spread_order(values: Matrix) -> NDArray[np.int64]:
    """(n,) rows, each the farthest from all before it, from the best sum on."""
    unit = np.maximum(np.ptp(values, axis=0), 1e-9)
    scaled = values / unit
    order = [int(np.argmax(scaled.sum(axis=1)))]
    apart = np.full(len(values), np.inf)
    for _ in range(len(values) - 1):
        apart = np.minimum(apart, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        apart[order] = -1.0
        order.append(int(np.argmax(apart)))
    return np.array(order)
