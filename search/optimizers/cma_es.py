"""CMA-ES on one number for all objectives: a mean, a distance, or the rank of their front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import cma
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search.archives.front import crowding, ranks
from search.merit import WORST, Merit, Merits
from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.outcome import Candidate, Origin, Outcome
from search.space import Genome
from search.spec import SearchSpec

Vector = NDArray[np.float64]

# With more genes a full covariance matrix costs more than it can learn within any budget.
_FULL_COVARIANCE_DIM = 256
# How much the sum of all distances counts beside the largest: Knowles 2006 (ParEGO), eq. 2.
_AUGMENTATION = 0.05


class CMAESOptions(Options):
    """Options of CMA-ES."""

    population: Annotated[
        int | None, Field(ge=5, le=1000, description="candidates per generation; 4 + 3 ln(genes)")
    ] = None
    step: Annotated[
        float, Field(gt=0, le=1, description="initial step size, in units of a gene's range")
    ] = 0.2
    aggregation: Annotated[
        Literal["mean", "tchebycheff", "rank"],
        Field(
            description="what makes one number of several objectives: their weighted mean; the "
            "weighted distance to the best of each, where it is largest; or the rank of their front"
        ),
    ] = "mean"


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A genome and its (objectives,) scores, None without."""

    genome: Genome
    values: Vector | None


@optimizers.register
class CMAES:
    """Samples from a normal distribution that follows the better half of its samples.

    ``ask`` draws from the library's distribution, through its boundary handling, with the generator
    of the candidate; the library's own samples are dropped. So in every generation some candidates
    stem from the distribution before (as many as were in flight); they are told all the same.
    It starts at the best genome of the opening; others of the opening that are good take the places
    of worse samples in the first generation (injection: Hansen 2011, arXiv:1110.4181).
    A run that has converged starts again from the best genome with the initial step size. With many
    genes it learns their variances only (Ros and Hansen 2008).
    """

    name: ClassVar[str] = "cma_es"
    summary: ClassVar[str] = "Follows the weighted mean of the objectives uphill; robust."
    source: ClassVar[str] = "Hansen 2016, arXiv:1604.00772, as in the library cma"
    options: ClassVar[type[Options]] = CMAESOptions
    needs_geometry: ClassVar[bool] = False

    def __init__(self, task: Task, options: CMAESOptions) -> None:
        self._task = task
        self._options = options
        self._merits = Merits(task)
        weights = np.array([objective.weight for objective in task.objectives])
        self._weights = weights / weights.sum()
        self._ideal = np.full(len(task.objectives), -np.inf)
        self._told = 0
        self._opening: list[_Known] = []
        average = task.space.encode({"weight": 1.0 / len(task.space.parents)})
        self._best = _Known(average, None)
        self._generation: list[_Known] = []
        self._restarts = 0
        self._start()

    @property
    def races_on(self) -> RacesOn:
        """Only means are compared by a mean."""
        return "preference" if self._options.aggregation == "mean" else "front"

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        es = self._strategy
        # The library needs two dimensions: a single gene gets a partner that nothing depends on.
        z = rng.standard_normal(es.N)
        point = es.mean + es.sigma * es.sigma_vec * es.sm.transform(z)
        inside = es.gp.pheno(point, into_bounds=es.boundary_handler.repair)
        genome = np.clip(inside[: self._task.space.dim], 0.0, 1.0)
        origin = Origin(
            "sample", detail={"generation": float(es.countiter), "step": float(es.sigma)}
        )
        return self._task.candidate(ordinal, genome, origin)

    def tell(self, outcome: Outcome) -> None:
        self._told += 1
        values = self._merits.learn(outcome)
        if values is not None:
            self._ideal = np.maximum(self._ideal, values)
        if outcome.candidate.genome is not None:
            known = _Known(np.array(outcome.candidate.genome), values)
            (self._opening if self._told <= self._task.opening else self._generation).append(known)
            self._compare(known)
        if self._told == self._task.opening:
            self._open()
        if len(self._generation) == self._strategy.popsize:
            self._advance()

    def status(self) -> str:
        """What it is at, in a sentence."""
        es = self._strategy
        kind = "variances only" if self._is_separable else "full covariance"
        again = f", started {self._restarts} times" if self._restarts > 1 else ""
        return (
            f"Generation {es.countiter} of {es.popsize} candidates, step {es.sigma:.3f} of a "
            f"gene's range, {kind}{again}."
        )

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: CMAESOptions) -> Mapping[str, str]:  # noqa: ARG004  # only genes matter
        return needs_genes(dim)

    def _open(self) -> None:
        """Start anew: now it is known in which units to compare, and which genome is the best."""
        self._best = _Known(self._best.genome, None)
        for known in self._opening:
            self._compare(known)
        self._start()

    def _merit(self, values: Vector | None) -> Merit:
        """As things are: distances are to the best that was told of each objective by now."""
        merit = self._merits(values)
        if values is None or self._options.aggregation != "tchebycheff":
            return merit
        apart = self._weights * (self._ideal - values) / self._merits.unit
        return Merit(merit.held, -float(apart.max() + _AUGMENTATION * apart.sum()))

    def _compare(self, known: _Known) -> None:
        """Remember the best genome."""
        if self._merit(known.values) > self._merit(self._best.values):
            self._best = known

    @property
    def _is_separable(self) -> bool:
        return len(self._padded(self._best.genome)) > _FULL_COVARIANCE_DIM

    def _start(self) -> None:
        """A new distribution around the best genome that was told, else the uniform average."""
        rng = self._task.generator(1, self._restarts)
        self._restarts += 1
        settings = {
            "bounds": [0.0, 1.0],
            "randn": lambda *shape: rng.standard_normal(shape),
            "seed": np.nan,  # leave numpy's global generator alone
            "AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA,
            "CMA_diagonal": self._is_separable,
            "CMA_mirrors": 0,
            "signals_filename": "",
            "verbose": -10,
            "verb_log": 0,
        }
        if self._options.population is not None:
            settings["popsize"] = self._options.population
        start = self._padded(self._best.genome)
        self._strategy = cma.CMAEvolutionStrategy(start, self._options.step, settings)
        self._refresh()

    def _advance(self) -> None:
        generation = self._injected(self._generation)
        self._generation = []
        genomes = [self._padded(known.genome) for known in generation]
        self._strategy.tell(genomes, self._losses(generation).tolist())
        if self._strategy.stop():
            self._start()
        else:
            self._refresh()

    def _injected(self, generation: list[_Known]) -> list[_Known]:
        """The first generation, its worse half replaced by what is better of the opening.

        Not by what is worse: the library steps away from the worst that it is told.
        """
        known = [k for k in self._opening if k.values is not None and k is not self._best]
        self._opening = []
        if not known:
            return generation
        merits = [self._merit(k.values) for k in generation]
        order = sorted(range(len(generation)), key=lambda i: merits[i], reverse=True)
        kept = [generation[i] for i in order[: (len(order) + 1) // 2]]
        rest = [generation[i] for i in order[len(kept) :]] + known
        rest.sort(key=lambda k: self._merit(k.values), reverse=True)
        return kept + rest[: len(generation) - len(kept)]

    def _losses(self, generation: Sequence[_Known]) -> Vector:
        """(n,) what the library minimizes, of a generation."""
        if self._options.aggregation == "rank":
            return _losses_by_rank(generation, self._merits)
        return _losses([self._merit(known.values) for known in generation])

    def _refresh(self) -> None:
        """Let the library update its sampling and expect a generation; its points are dropped."""
        self._strategy.ask()

    def _padded(self, genome: Genome) -> Vector:
        return genome if len(genome) > 1 else np.append(genome, 0.5)


def _losses(merits: Sequence[Merit]) -> Vector:
    """(n,) preferences turned around for a minimizer.

    What violates constraints is worse than all that does not, and what was not scored than both.
    """
    scored = [merit for merit in merits if merit != WORST]
    worst = max((-merit.preference for merit in scored if merit.held == 0), default=0.0)
    most = max((-merit.held for merit in scored), default=0.0)

    def loss(merit: Merit) -> float:
        if merit == WORST:
            return worst + 1.0 + most + (1.0 if most else 0.0)
        return worst + 1.0 - merit.held if merit.held else -merit.preference

    return np.array([loss(merit) for merit in merits])


def _losses_by_rank(generation: Sequence[_Known], merits: Merits) -> Vector:
    """(n,) the front that each lies on, and the more the more crowded its place there is.

    What was not scored comes last.
    """
    scored = [i for i, known in enumerate(generation) if known.values is not None]
    losses = np.full(len(generation), float(len(generation)))
    if not scored:
        return losses
    points = np.stack([known.values for known in generation if known.values is not None])
    rank = ranks(points, merits.constraints.violation(points))
    for front in np.unique(rank):
        peers = np.flatnonzero(rank == front)
        order = np.argsort(-crowding(points[peers]), kind="stable")
        losses[np.array(scored)[peers[order]]] = front + np.arange(len(peers)) / len(peers)
    return losses
