"""What an optimizer is: asked without being changed, changed only by being told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from search.constraints import Constraints
from search.geometry import Geometry
from search.outcome import Candidate, Origin, Outcome, Scored
from search.pareto import preference
from search.registry import Registry
from search.space import Genome, SearchSpace
from search.spec import Objective, SearchSpec

RacesOn = Literal["front", "preference", "nothing"]


class Options(BaseModel):
    """Base of every optimizer's options: validated from the spec, shown in the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Task:
    """What an optimizer works on.

    Args:
        space: the genes.
        objectives: what is maximized, in order.
        opening: number of candidates that precede the optimizer's first: base, parents, average.
        parallel: candidates in flight; before ask(n), outcomes 0 to n - parallel were told.
        seed: of the search.
        geometry: of the models, for an optimizer that needs it.
        floor: (objectives,) what a candidate must reach to be of use, where that is known.
        directions: objective key -> whether higher is better in the metric's own sign, in which
            bounds are written; it is where this is silent.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    opening: int
    parallel: int
    seed: int
    geometry: Geometry | None = None
    floor: NDArray[np.float64] | None = None
    directions: Mapping[str, bool] = field(default_factory=dict)

    def constraints(self) -> Constraints:
        """What candidates must hold; whoever asks for it lets it learn from every outcome."""
        return Constraints(self.objectives, self.directions, len(self.space.parents))

    def demands(self) -> Constraints:
        """The constraints and the floor: for an optimizer that knows no other use of a floor."""
        parents = len(self.space.parents)
        return Constraints(self.objectives, self.directions, parents, floor=self.floor)

    def values(self, outcome: Outcome) -> NDArray[np.float64] | None:
        """(objectives,) finite scores, or None where there is nothing to learn from."""
        if not isinstance(outcome, Scored):
            return None
        scores = np.array([outcome.scores[o.key].value for o in self.objectives], np.float64)
        return scores if np.isfinite(scores).all() else None

    def preference(self, values: NDArray[np.float64], unit: NDArray[np.float64]) -> float:
        """One number: the mean of (objectives,) scores, in their units, by the spec's weights."""
        return float(preference(values, [o.weight for o in self.objectives], unit))

    def candidate(self, ordinal: int, genome: Genome, origin: Origin) -> Candidate:
        """The candidate at a point of the space."""
        return Candidate(ordinal, self.space.decode(genome), origin, tuple(genome.tolist()))

    def genomes(self, candidates: Sequence[Candidate]) -> NDArray[np.float64]:
        """(n, dim) those of candidates that have one."""
        found = [candidate.genome for candidate in candidates if candidate.genome is not None]
        return np.reshape(found, (-1, self.space.dim)).astype(np.float64)

    def generator(self, *key: int) -> np.random.Generator:
        """Randomness that belongs to the search and not to one candidate; differs by ``key``."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


class Optimizer(Protocol):
    """A search strategy.

    ``ask`` is a pure function of what was told, the ordinal, the generator and the candidates that
    were proposed since: asking twice gives the same candidate, not asking changes nothing. ``tell``
    receives every outcome once, in ordinal order, including those of the opening. An infeasible
    outcome ranks below every scored one, and one that violates the constraints of the objectives
    below every one that does not.
    """

    @property
    def races_on(self) -> RacesOn:
        """Who may leave early.

        On the front whoever is behind in every objective, on preference whoever is behind in their
        weighted mean, and nobody where candidates are compared example by example.
        """

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        """The candidate at this ordinal; ``pending`` are those before it that were not told."""

    def tell(self, outcome: Outcome) -> None:
        """Learn from the next outcome."""

    def status(self) -> str:
        """What it does now and why, in a sentence for people; follows from what was told alone."""


@runtime_checkable
class Foresighted(Protocol):
    """An optimizer that knows what it expects."""

    def expected_gain(self) -> float | None:
        """Share of the hypervolume that the best of all candidates is expected to add.

        Follows from what was told alone; None while too little was.
        """


class OptimizerClass(Protocol):
    """An optimizer before it has something to work on: a class, or what stands for several."""

    @property
    def name(self) -> str:
        """As written in a spec."""

    @property
    def summary(self) -> str:
        """What it does, in a sentence."""

    @property
    def source(self) -> str:
        """Where it comes from."""

    @property
    def options(self) -> type[Options]:
        """What may stand beside its name."""

    @property
    def needs_geometry(self) -> bool:
        """Whether its task has the geometry of the models."""

    def __call__(self, task: Task, options: Any, /) -> Optimizer:
        """Set to work; ``options`` is an instance of the class's own ``options``."""

    def problems(self, spec: SearchSpec, dim: int, options: Any, /) -> Mapping[str, str]:
        """Field -> message for what this optimizer cannot do with a spec of ``dim`` genes."""


def needs_genes(dim: int) -> dict[str, str]:
    """The problem of a search that has nothing to choose, for optimizers that work on genomes."""
    if dim > 0:
        return {}
    return {"space.parameters": "nothing is searched; give at least one a {low, high} range"}


optimizers: Registry[OptimizerClass] = Registry("optimizer", "search.optimizers")
