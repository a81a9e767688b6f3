"""MAP: a quadratic surrogate per metric, its front by NSGA-III, and the truth about that front."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import comb
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.core.problem import Problem
from pymoo.optimize import minimize
from pymoo.util.ref_dirs import get_reference_directions
from scipy.spatial.distance import cdist

from search.constraints import Constraints
from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.optimizers.uniform import SobolPoints
from search.outcome import KEPT, Candidate, Origin, Outcome, Scored
from search.pareto import first_front, hypervolume, reference_point
from search.space import Genome, SearchSpace
from search.spec import SearchSpec
from search.surrogate import Surrogate, fit, link_for, shapes_for

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# Exact hypervolumes get slow with the number of objectives.
_MOST_OBJECTIVES_FOR_HYPERVOLUME = 4
_LONGEST_QUEUE = 16
# Genomes nearer than this are one and the same model for all that scores can tell.
_SAME = 1e-3


class MAPOptions(Options):
    """Options of MAP."""

    initial: Annotated[
        int | None, Field(ge=1, le=100_000, description="Sobol' points before the first fit")
    ] = None
    population: Annotated[int, Field(ge=8, le=400, description="of NSGA-III")] = 40
    generations: Annotated[int, Field(ge=1, le=1000, description="of NSGA-III")] = 15


@optimizers.register
class MAP:
    """Fits a surrogate to all that is known and evaluates where its front promises most.

    Li et al. 2024 with these differences: fitted on the scale of the link, with a ridge; never
    outside of the cube, where a quadratic means nothing; refitted as outcomes come; of the
    predicted front those members are evaluated that add most hypervolume to what is known.
    """

    name: ClassVar[str] = "map"
    summary: ClassVar[str] = "Learns a quadratic model of every metric; strong on few evaluations."
    source: ClassVar[str] = "Li et al. 2024, arXiv:2406.07529; NSGA-III of pymoo"
    options: ClassVar[type[Options]] = MAPOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, options: MAPOptions) -> None:
        dim = task.space.dim
        self._task = task
        self._options = options
        self._initial = min(dim + 2, 16) if options.initial is None else options.initial
        self._points = SobolPoints(dim, task.generator(0))
        self._baselines: list[tuple[str, Vector]] = []
        self._genomes: list[Genome] = []
        self._values: list[Vector] = []
        self._counts: tuple[int, ...] = ()
        self._constraints = task.constraints()
        self._fitted: tuple[int, tuple[Surrogate, ...]] = (0, ())

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        index = ordinal - self._task.opening
        if index < self._initial or len(self._values) < 2:
            return self._task.candidate(ordinal, self._points[index], Origin("sample"))
        # Candidates in flight are not known here; those next to each other take different places.
        place = index % min(self._task.parallel, _LONGEST_QUEUE)
        genome = self._promising(self._predicted_front(rng), place)
        return self._task.candidate(ordinal, genome, Origin("predicted_front"))

    def tell(self, outcome: Outcome) -> None:
        values = self._task.values(outcome)
        self._constraints.learn(outcome.candidate.ordinal, values)
        if values is None or not isinstance(outcome, Scored):
            return
        candidate = outcome.candidate
        if candidate.ordinal < self._task.opening and candidate.origin.move != KEPT:
            self._baselines.append((candidate.origin.move, values))
        if candidate.genome is not None:
            self._genomes.append(np.array(candidate.genome))
            self._values.append(values)
            self._counts = tuple(outcome.scores[o.key].count for o in self._task.objectives)

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: MAPOptions) -> Mapping[str, str]:  # noqa: ARG004  # only genes matter
        return needs_genes(dim)

    def _surrogates(self) -> tuple[Surrogate, ...]:
        """One per objective.

        Fits cost more the more is known, and change less: up to a fiftieth of what was told waits.
        """
        told = len(self._values)
        known = told - told % max(1, told // 50)
        if self._fitted[0] != known:
            genomes, values = np.stack(self._genomes[:known]), np.stack(self._values[:known])
            shapes = shapes_for(_alike(self._task.space), known)
            surrogates = (
                fit(genomes, metric, link_for(metric, count), shapes)
                for metric, count in zip(values.T, self._counts, strict=True)
            )
            self._fitted = (known, tuple(surrogates))
        return self._fitted[1]

    def _predict(self, genomes: Matrix) -> Matrix:
        """(n, dim) genomes to (n, objectives) predicted scores."""
        return np.stack([surrogate(genomes) for surrogate in self._surrogates()], axis=1)

    def _predicted_front(self, rng: np.random.Generator) -> Matrix:
        """(n, dim) genomes at which NSGA-III ends, started on the surrogates from the front."""
        values, dim = np.stack(self._values), self._task.space.dim
        directions = _directions(values.shape[1], self._options.population)
        size = max(self._options.population, len(directions))
        on_front = first_front(values, self._constraints.violation(values))
        best = np.stack(self._genomes)[on_front][-size // 2 :]
        start = np.concatenate((best, rng.random((size - len(best), dim))))
        found = minimize(
            _Predicted(self._predict, self._constraints, dim, values.shape[1]),
            NSGA3(directions, pop_size=size, sampling=start),
            ("n_gen", self._options.generations),
            seed=int(rng.integers(2**31)),
        )
        genomes: Matrix = np.clip(found.pop.get("X"), 0.0, 1.0)
        return genomes

    def _promising(self, genomes: Matrix, place: int) -> Genome:
        """The one of (n, dim) genomes that is chosen at a place of the queue, counted from 0.

        Each place goes to what is predicted to violate least, and of that to what adds most
        hypervolume to the known front and to all places before; where nothing adds any, to what is
        farthest from all known genomes.
        """
        distance = cdist(genomes, np.stack(self._genomes)).min(axis=1)
        predicted, have = self._predict(genomes), np.stack(self._values)
        missed = self._constraints.violation(predicted)
        have = have[first_front(have, self._constraints.violation(have))]
        reference = self._reference(predicted)
        for _ in range(place + 1):
            gains = np.maximum(_gains(have, predicted, reference), 0.0)
            known = distance < _SAME
            chosen = int(np.lexsort((-distance, -gains, missed, known))[0])
            have = np.vstack((have, predicted[chosen]))
            apart = np.linalg.norm(genomes - genomes[chosen], axis=1)
            distance = np.minimum(distance, apart)
        genome: Genome = genomes[chosen]
        return genome

    def _reference(self, predicted: Matrix) -> Vector:
        """(objectives,) the point above which trade-offs are sought.

        A tenth of the baselines' span below the worse of base and average, rather than below the
        worst parent: what a specialist gives up for its own task is known already. Where nothing
        predicted lies above that, the worst parent's after all. Never below what must be reached.
        """
        points = np.stack([values for _, values in self._baselines] or self._values)
        shared = [values for move, values in self._baselines if move in ("base", "average")]
        worst = reference_point(points)
        near: Vector = np.min(shared or points, axis=0) - (points.min(axis=0) - worst)
        reference = near if (predicted > near).all(axis=1).any() else worst
        return np.maximum(reference, self._constraints.low)


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
