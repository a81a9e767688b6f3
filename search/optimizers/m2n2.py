"""M2N2: an archive whose members compete for examples and mate with those that complement them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search.archives.niches import NicheArchive
from search.crossover import Angle
from search.genes import Choice
from search.layout import Module
from search.lineage import Lineage, Table
from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.optimizers.uniform import SobolPoints
from search.outcome import Candidate, Origin, Outcome, Score, Scored
from search.space import Genome
from search.spec import SearchSpec
from search.splitting import SplitAt, gene_chromosomes, grid_chromosomes

# A child that was tried before is drawn anew so often.
_DRAWS = 20
# Coefficients that are nearer make models that no score tells apart.
_SAME = 1e-6


class M2N2Options(Options):
    """Options of M2N2."""

    population: Annotated[int, Field(ge=2, le=1000, description="members of the archive")] = 20
    alpha: Annotated[
        float, Field(ge=0, le=10, description="how strongly members compete; 0 is not at all")
    ] = 1.0
    matchmaker: Annotated[
        bool, Field(description="draw second parents by attraction; if not, by fitness")
    ] = True
    split_points: Annotated[
        int, Field(ge=0, le=64, description="where a child changes sides; 0 mixes it evenly")
    ] = 1
    split_at: Annotated[
        SplitAt,
        Field(description="between tensors, between blocks of the space, or anywhere on a grid"),
    ] = "element"
    chromosomes: Annotated[
        tuple[Module, ...],
        Field(description="modules that are crossed apart from the rest: attention, mlp, norm"),
    ] = ()
    angle: Annotated[
        Angle,
        Field(description="SLERP's: over the whole chromosome, or in each segment (linear only)"),
    ] = "whole"
    warm_up: Annotated[
        int,
        Field(ge=0, le=10_000, description="first candidates, made without regard to scores"),
    ] = 10
    segments: Annotated[
        int, Field(ge=1, le=4096, description="most places where a chromosome may be split")
    ] = 64
    mutation: Annotated[
        float,
        Field(ge=0, le=1, description="noise on genes, in units of their range (not linear)"),
    ] = 0.05


@optimizers.register
class M2N2:
    """Steady-state evolution with resource competition, attraction and split-point crossover.

    With method ``linear`` an individual is a coefficient table over cells of the model and the
    crossover is the paper's, exactly: what the spec searches does not matter then. With any other
    method, or along a path, individuals are genomes. The archive says who is replaced
    (`NicheArchive`).

    By default as the authors' code: one split point anywhere on the grid, the start included, and
    one angle for both of its sides (eq. 2 reads as one for each: ``angle: segment``). From the
    paper's experiments with large models come the warm-up, random merges of the parents, and
    chromosomes, modules that are crossed apart with split points, a ratio and an angle of their
    own. Differs from both in that no model is evaluated twice: a child that was tried before, or is
    being tried, is drawn anew, and after some draws made without the archive, which then holds one
    and the same model.
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
            if task.space.declaration.name == "linear" and task.space.flow is None
            else _Population(task, options, _Genomes(task, options))
        )

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        return self._population.ask(ordinal, rng, pending)

    def tell(self, outcome: Outcome) -> None:
        self._population.tell(outcome)

    def status(self) -> str:
        return self._population.status()

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: M2N2Options) -> Mapping[str, str]:
        problems: dict[str, str] = {}
        if spec.method != "linear" or spec.space.path is not None:
            problems |= needs_genes(dim)
            if options.angle == "segment":
                problems["optimizer.angle"] = (
                    f"genomes of '{spec.method}' are interpolated on a line, which has no angle; "
                    "remove it, or use method linear without a path"
                )
        elif options.split_at == "block" and spec.space.blocks == "model":
            problems["optimizer.split_at"] = (
                "the whole model is one block; write space.blocks: {layers: 1}, or split_at: tensor"
            )
        if len(spec.parents) < 2:
            problems["parents"] = "m2n2 recombines parents; name at least two"
        return problems


Individual = TypeVar("Individual")


class _Breed(Protocol[Individual]):
    """How individuals look and multiply."""

    def read(self, candidate: Candidate) -> Individual | None:
        """The individual that a candidate was made from; None when it is none of this breed."""

    def key(self, individual: Individual) -> bytes:
        """What is equal for individuals that are one and the same model, but for rounding."""

    def is_ready(self, told: int) -> bool:
        """Whether all that the warm-up waits for was told."""

    def founder(self, ordinal: int, draw: int, rng: np.random.Generator) -> Candidate:
        """A candidate that owes nothing to any score; another one at each draw."""

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
        self._tried: set[bytes | None] = set()
        self._first_child = task.opening + options.warm_up
        self._matchmaker = options.matchmaker
        self._constraints = task.constraints()
        self._archive: NicheArchive[_Member[Individual]] = NicheArchive(
            options.population,
            alpha=options.alpha,
            matchmaker=options.matchmaker,
            weights=[objective.weight for objective in task.objectives],
            violation=lambda member: float(self._constraints.violation(member.values)),
        )

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate]
    ) -> Candidate:
        being_tried = {self._key(candidate) for candidate in pending}
        for proposed in self._proposals(ordinal, rng):
            if (key := self._key(proposed)) not in self._tried and key not in being_tried:
                break
        return proposed

    def status(self) -> str:
        members = len(self._archive)
        if self._is_founding(self._told):
            return f"Founds its archive, which has {members} members."
        mates = "those that are right where they err" if self._matchmaker else "those that are fit"
        return f"Mates the {members} members of its archive with {mates}."

    def tell(self, outcome: Outcome) -> None:
        self._told += 1
        values = self._task.values(outcome)
        self._constraints.learn(outcome.candidate.ordinal, values)
        self._tried.add(self._key(outcome.candidate))
        if not isinstance(outcome, Scored) or values is None:
            return
        individual = self._breed.read(outcome.candidate)
        if individual is not None:
            scores = [_examples(outcome.scores[o.key]) for o in self._task.objectives]
            self._archive.add(_Member(outcome.candidate.ordinal, individual, values), scores)

    def _proposals(self, ordinal: int, rng: np.random.Generator) -> Iterator[Candidate]:
        if not self._is_founding(ordinal):
            for _ in range(_DRAWS):
                yield self._child(ordinal, rng)
        for draw in range(_DRAWS):
            yield self._breed.founder(ordinal, draw, rng)

    def _is_founding(self, ordinal: int) -> bool:
        return (
            ordinal < self._first_child
            or len(self._archive) < 2
            or not self._breed.is_ready(self._told)
        )

    def _child(self, ordinal: int, rng: np.random.Generator) -> Candidate:
        a, b = (self._archive.members[i] for i in self._archive.draw(rng))
        child = self._breed.child(ordinal, (a.individual, b.individual), rng)
        origin = Origin(child.origin.move, (a.ordinal, b.ordinal), child.origin.detail)
        return Candidate(ordinal, child.recipe, origin, child.genome)

    def _key(self, candidate: Candidate) -> bytes | None:
        individual = self._breed.read(candidate)
        return None if individual is None else self._breed.key(individual)


class _Tables:
    """Coefficient tables on a grid of the flattened model; children of linear merges."""

    def __init__(self, task: Task, options: M2N2Options) -> None:
        if task.geometry is None:
            raise ValueError("m2n2 needs the geometry of the models to merge them linearly")
        cells, self._chromosomes = grid_chromosomes(
            task.space.layout,
            task.geometry.boundaries,
            split_at=options.split_at,
            blocks=task.space.partition,
            modules=options.chromosomes,
            most=options.segments,
        ).joined()
        self._lineage = Lineage(task.geometry, task.space.parents, cells)
        self._options = options
        self._parents = len(task.space.parents)
        self._opening = task.opening

    def read(self, candidate: Candidate) -> Table | None:
        return self._lineage.table(candidate.recipe)

    def key(self, individual: Table) -> bytes:
        return _digest(individual)

    def is_ready(self, told: int) -> bool:
        """The parents themselves must be known."""
        return told >= self._opening

    def founder(self, ordinal: int, draw: int, rng: np.random.Generator) -> Candidate:  # noqa: ARG002  # all are random
        """A child of two of the user's parents, whose scores may still be on their way."""
        i, j = (int(n) for n in rng.choice(self._parents, size=2, replace=False))
        child = self.child(ordinal, (self._lineage.founder(i), self._lineage.founder(j)), rng)
        # The opening measures the base first, then the parents in order.
        origin = Origin(child.origin.move, (1 + i, 1 + j), child.origin.detail)
        return Candidate(ordinal, child.recipe, origin)

    def child(
        self, ordinal: int, parents: tuple[Table, Table], rng: np.random.Generator
    ) -> Candidate:
        crossing = self._chromosomes.cross(
            rng, split_points=self._options.split_points, angle=self._options.angle
        )
        table = self._lineage.crossover(*parents, crossing)
        return Candidate(
            ordinal, self._lineage.recipe(table), Origin("crossover", detail=crossing.detail)
        )


class _Genomes:
    """Points of the space, cut between genes.

    Differs from the paper in three ways, because points of a space are no weight vectors and
    parents span little of it: linear interpolation for SLERP, noise on the genes of every child,
    and Sobol' points for the warm-up.
    """

    def __init__(self, task: Task, options: M2N2Options) -> None:
        self._task = task
        self._options = options
        self._points = SobolPoints(task.space.dim, task.generator(0))
        self._chromosomes = gene_chromosomes(
            task.space,
            split_at=options.split_at,
            modules=options.chromosomes,
            most=options.segments,
        )

    def read(self, candidate: Candidate) -> Genome | None:
        return None if candidate.genome is None else np.array(candidate.genome)

    def key(self, individual: Genome) -> bytes:
        """Points of one choice are one model; numbers are told apart as finely as tables are."""
        told = individual.copy()
        for place, gene in enumerate(self._task.space.genes):
            if isinstance(gene, Choice):
                told[place] = gene.places(individual[place : place + 1])[0]
        return _digest(told)

    def is_ready(self, told: int) -> bool:  # noqa: ARG002  # as the protocol has it
        return True

    def founder(self, ordinal: int, draw: int, rng: np.random.Generator) -> Candidate:
        dim = self._task.space.dim
        point = rng.random(dim) if draw else self._points[ordinal - self._task.opening]
        return self._task.candidate(ordinal, point, Origin("sample"))

    def child(
        self, ordinal: int, parents: tuple[Genome, Genome], rng: np.random.Generator
    ) -> Candidate:
        crossing = self._chromosomes.cross(
            rng, split_points=self._options.split_points, angle="whole"
        )
        ratios = crossing.interpolation()
        noise = self._options.mutation * rng.standard_normal(self._task.space.dim)
        genome = np.clip((1.0 - ratios) * parents[0] + ratios * parents[1] + noise, 0.0, 1.0)
        return self._task.candidate(ordinal, genome, Origin("crossover", detail=crossing.detail))


def _digest(individual: NDArray[np.float64]) -> bytes:
    numbers = np.rint(individual / _SAME).astype(np.int64)
    return hashlib.blake2b(numbers.tobytes(), digest_size=16).digest()


def _examples(score: Score) -> NDArray[np.float64]:
    """(count,) finite scores per example; the aggregate where a metric has none.

    A score that is not a number counts as the worst of the candidate's others.
    """
    scores = score.examples.astype(np.float64) if len(score.examples) else np.array([score.value])
    finite = np.isfinite(scores)
    return np.where(finite, scores, scores[finite].min() if finite.any() else 0.0)
