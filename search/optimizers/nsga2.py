"""NSGA-II, one child at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pymoo.operators.crossover.sbx import cross_sbx
from pymoo.operators.mutation.pm import mut_pm

from search.archives.front import crowding, most_crowded, ranks
from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.optimizers.uniform import SobolPoints
from search.outcome import Candidate, Origin, Outcome
from search.space import Genome
from search.spec import SearchSpec


class NSGA2Options(Options):
    """Options of NSGA-II."""

    population: Annotated[int, Field(ge=4, le=1000, description="members that may breed")] = 20
    crossover_eta: Annotated[
        float, Field(gt=0, le=100, description="SBX: children resemble their parents more if high")
    ] = 15.0
    mutation_eta: Annotated[
        float, Field(gt=0, le=100, description="polynomial mutation: smaller steps if high")
    ] = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    ordinal: int
    genome: Genome
    values: NDArray[np.float64]


@optimizers.register
class NSGA2:
    """Tournament, simulated binary crossover, polynomial mutation; survival by rank and crowding.

    Differs from the paper in being steady-state: a child competes as soon as its outcome is told,
    so nothing waits for a generation. An infeasible candidate never enters the population, that
    is, it ranks below every member. Constraints are handled as in the paper, section VI.
    """

    name: ClassVar[str] = "nsga2"
    summary: ClassVar[str] = "Evolves a population towards the whole front of trade-offs."
    source: ClassVar[str] = "Deb et al. 2002, doi:10.1109/4235.996017; operators of pymoo"
    options: ClassVar[type[Options]] = NSGA2Options
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, options: NSGA2Options) -> None:
        self._task = task
        self._options = options
        self._points = SobolPoints(task.space.dim, task.generator(0))
        self._members: list[_Member] = []
        self._constraints = task.constraints()

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        if len(self._members) < self._options.population:
            genome = self._points[ordinal - self._task.opening]
            return self._task.candidate(ordinal, genome, Origin("sample"))
        a, b = self._tournament(rng), self._tournament(rng)
        genome = self._child(a.genome, b.genome, rng)
        return self._task.candidate(ordinal, genome, Origin("crossover", (a.ordinal, b.ordinal)))

    def tell(self, outcome: Outcome) -> None:
        values = self._task.values(outcome)
        self._constraints.learn(outcome.candidate.ordinal, values)
        if values is None or outcome.candidate.genome is None:
            return
        genome = np.array(outcome.candidate.genome)
        self._members.append(_Member(outcome.candidate.ordinal, genome, values))
        if len(self._members) > self._options.population:
            del self._members[self._worst()]

    def status(self) -> str:
        missing = self._options.population - len(self._members)
        if missing > 0:
            return f"Samples spread points until {missing} more of a population are scored."
        return "Crosses and mutates the nondominated of its population, to move all of the front."

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: NSGA2Options) -> Mapping[str, str]:  # noqa: ARG004  # only genes matter
        return needs_genes(dim)

    def _tournament(self, rng: np.random.Generator) -> _Member:
        """The better of two members by rank, then by crowding; the first drawn where they tie."""
        points = np.stack([member.values for member in self._members])
        rank = ranks(points, self._constraints.violation(points))
        i, j = (int(n) for n in rng.choice(len(points), size=2, replace=False))
        if rank[i] != rank[j]:
            return self._members[i if rank[i] < rank[j] else j]
        peers = np.flatnonzero(rank == rank[i])
        distance = dict(zip(peers.tolist(), crowding(points[peers]).tolist(), strict=True))
        return self._members[j if distance[j] > distance[i] else i]

    def _child(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        low, high = np.zeros(len(a)), np.ones(len(a))
        children = cross_sbx(
            np.stack((a, b))[:, None, :],
            low,
            high,
            eta=np.full((1, 1), self._options.crossover_eta),
            prob_var=0.5,
            prob_bin=np.full((1, 1), 0.5),
            random_state=rng,
        )
        child = children[int(rng.integers(2))]
        # At least one gene changes, lest a child of equal parents be evaluated twice.
        mutated = mut_pm(
            child,
            low,
            high,
            eta=np.full(1, self._options.mutation_eta),
            prob=np.full(1, min(0.5, 1.0 / len(a))),
            at_least_once=True,
            random_state=rng,
        )
        genome: Genome = np.clip(mutated[0], 0.0, 1.0)
        return genome

    def _worst(self) -> int:
        """Index of the most crowded member of the last front."""
        points = np.stack([member.values for member in self._members])
        rank = ranks(points, self._constraints.violation(points))
        last = np.flatnonzero(rank == rank.max())
        return int(last[most_crowded(points[last])])
