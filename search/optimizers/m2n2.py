"""M2N2: an archive whose members compete for examples and mate with those that complement them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search.archives.niches import NicheArchive
from search.lineage import Lineage, Table
from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.optimizers.uniform import SobolPoints
from search.outcome import Candidate, Origin, Outcome, Score, Scored
from search.space import Genome
from search.spec import SearchSpec


class M2N2Options(Options):
    """Options of M2N2."""

    population: Annotated[int, Field(ge=2, le=1000, description="members of the archive")] = 20
    alpha: Annotated[
        float, Field(ge=0, le=10, description="how strongly members compete; 0 is not at all")
    ] = 1.0
    segments: Annotated[
        int, Field(ge=1, le=4096, description="places where a model may be split (linear only)")
    ] = 64
    mutation: Annotated[
        float,
        Field(ge=0, le=1, description="noise on genes, in units of their range (not linear)"),
    ] = 0.05


@optimizers.register
class M2N2:
    """Steady-state evolution with resource competition, attraction and split-point crossover.

    With method ``linear`` an individual is a coefficient table over segments of the model and the
    crossover is the paper's, exactly: what the spec searches does not matter then. With any other
    method individuals are genomes.
    """

    name: ClassVar[str] = "m2n2"
    summary: ClassVar[str] = "Models compete for examples and mate with those that solve others."
    source: ClassVar[str] = "Abrantes et al. 2025, arXiv:2508.16204"
    options: ClassVar[type[Options]] = M2N2Options
    needs_geometry: ClassVar[bool] = True
    races_on: ClassVar[RacesOn] = "nothing"

    def __init__(self, task: Task, options: M2N2Options) -> None:
        self._population: _Population[Table] | _Population[Genome] = (
            _Population(task, options, _Tables(task, options))
            if task.space.declaration.name == "linear"
            else _Population(task, options, _Genomes(task, options))
        )

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        return self._population.ask(ordinal, rng)

    def tell(self, outcome: Outcome) -> None:
        self._population.tell(outcome)

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: M2N2Options) -> Mapping[str, str]:  # noqa: ARG004  # any options will do
        problems = {} if spec.method == "linear" else needs_genes(dim)
        if len(spec.parents) < 2:
            problems["parents"] = "m2n2 recombines parents; name at least two"
        return problems


Individual = TypeVar("Individual")


class _Breed(Protocol[Individual]):
    """How individuals look and multiply."""

    def read(self, candidate: Candidate) -> Individual | None:
        """The individual that a candidate was made from; None when it is none of this breed."""

    def is_founding(self, told: int, members: int) -> bool:
        """Whether candidates are still made without the archive."""

    def founder(self, ordinal: int, rng: np.random.Generator) -> Candidate:
        """A candidate that owes nothing to any score."""

    def child(
        self, ordinal: int, parents: tuple[Individual, Individual], rng: np.random.Generator
    ) -> Candidate:
        """The offspring of two; its origin does not name them yet."""


@dataclass(frozen=True, slots=True, eq=False)
class _Member(Generic[Individual]):
    ordinal: int
    individual: Individual
    values: NDArray[np.float64]


class _Population(Generic[Individual]):
    """The archive and who may enter it."""

    def __init__(self, task: Task, options: M2N2Options, breed: _Breed[Individual]) -> None:
        self._task = task
        self._breed = breed
        self._told = 0
        self._constraints = task.constraints()
        self._archive: NicheArchive[_Member[Individual]] = NicheArchive(
            options.population,
            alpha=options.alpha,
            weights=[objective.weight for objective in task.objectives],
            violation=lambda member: float(self._constraints.violation(member.values)),
        )

    def ask(self, ordinal: int, rng: np.random.Generator) -> Candidate:
        if self._breed.is_founding(self._told, len(self._archive)):
            return self._breed.founder(ordinal, rng)
        a, b = (self._archive.members[i] for i in self._archive.draw(rng))
        child = self._breed.child(ordinal, (a.individual, b.individual), rng)
        origin = Origin(child.origin.move, (a.ordinal, b.ordinal), child.origin.detail)
        return Candidate(ordinal, child.recipe, origin, child.genome)

    def tell(self, outcome: Outcome) -> None:
        self._told += 1
        values = self._task.values(outcome)
        self._constraints.learn(outcome.candidate.ordinal, values)
        if not isinstance(outcome, Scored) or values is None:
            return
        individual = self._breed.read(outcome.candidate)
        if individual is not None:
            scores = [_examples(outcome.scores[o.key]) for o in self._task.objectives]
            self._archive.add(_Member(outcome.candidate.ordinal, individual, values), scores)


class _Tables:
    """Coefficient tables on a grid of the flattened model; children of linear merges."""

    def __init__(self, task: Task, options: M2N2Options) -> None:
        if task.geometry is None:
            raise ValueError("m2n2 needs the geometry of the models to merge them linearly")
        self._lineage = Lineage(task.geometry, task.space.parents, cells=options.segments)
        self._parents = len(task.space.parents)
        self._opening = task.opening

    def read(self, candidate: Candidate) -> Table | None:
        return self._lineage.table(candidate.recipe)

    def is_founding(self, told: int, members: int) -> bool:
        return told < self._opening or members < 2

    def founder(self, ordinal: int, rng: np.random.Generator) -> Candidate:
        """A child of two of the user's parents, whose scores are still on their way."""
        i, j = (int(n) for n in rng.choice(self._parents, size=2, replace=False))
        child = self.child(ordinal, (self._lineage.founder(i), self._lineage.founder(j)), rng)
        # The opening measures the base first, then the parents in order.
        origin = Origin(child.origin.move, (1 + i, 1 + j), child.origin.detail)
        return Candidate(ordinal, child.recipe, origin)

    def child(
        self, ordinal: int, parents: tuple[Table, Table], rng: np.random.Generator
    ) -> Candidate:
        split, ratio = int(rng.integers(self._lineage.cells)), float(rng.random())
        table = self._lineage.crossover(*parents, split=split, ratio=ratio)
        detail = {"split": self._lineage.boundaries[split] / self._lineage.boundaries[-1]}
        origin = Origin("crossover", detail={**detail, "ratio": ratio})
        return Candidate(ordinal, self._lineage.recipe(table), origin)


class _Genomes:
    """Points of the space, cut between blocks (between genes where there is one block).

    Differs from the paper in three ways, because points of a space are no weight vectors and
    parents span little of it: linear interpolation for SLERP, noise on the genes of every child,
    and Sobol' points until half of the population is there.
    """

    def __init__(self, task: Task, options: M2N2Options) -> None:
        self._task = task
        self._mutation = options.mutation
        self._samples = options.population // 2
        self._points = SobolPoints(task.space.dim, task.generator(0))
        blocks = [gene.block for gene in task.space.genes]
        cuts = [i for i in range(len(blocks)) if i == 0 or blocks[i] != blocks[i - 1]]
        self._cuts = cuts if len(cuts) > 1 else list(range(len(blocks)))

    def read(self, candidate: Candidate) -> Genome | None:
        return None if candidate.genome is None else np.array(candidate.genome)

    def is_founding(self, told: int, members: int) -> bool:  # noqa: ARG002  # as the protocol has it
        return members < max(2, self._samples)

    def founder(self, ordinal: int, rng: np.random.Generator) -> Candidate:  # noqa: ARG002  # Sobol' points need none
        return self._task.candidate(
            ordinal, self._points[ordinal - self._task.opening], Origin("sample")
        )

    def child(
        self, ordinal: int, parents: tuple[Genome, Genome], rng: np.random.Generator
    ) -> Candidate:
        split, ratio = self._cuts[int(rng.integers(len(self._cuts)))], float(rng.random())
        ratios = np.where(np.arange(self._task.space.dim) < split, ratio, 1.0 - ratio)
        noise = self._mutation * rng.standard_normal(self._task.space.dim)
        genome = np.clip((1.0 - ratios) * parents[0] + ratios * parents[1] + noise, 0.0, 1.0)
        detail = {"split": split / self._task.space.dim, "ratio": ratio}
        return self._task.candidate(ordinal, genome, Origin("crossover", detail=detail))


def _examples(score: Score) -> NDArray[np.float64]:
    """(count,) finite scores per example; the aggregate where a metric has none.

    A score that is not a number counts as the worst of the candidate's others.
    """
    scores = score.examples.astype(np.float64) if len(score.examples) else np.array([score.value])
    finite = np.isfinite(scores)
    return np.where(finite, scores, scores[finite].min() if finite.any() else 0.0)
