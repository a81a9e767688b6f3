"""CMA-ES on the weighted mean of the objectives, measured in spans of the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import cma
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.outcome import Candidate, Origin, Outcome
from search.pareto import span
from search.space import Genome
from search.spec import SearchSpec

# (violation of the constraints, preference): ordered by the first, less being better.
_Merit = tuple[float, float]

# Above this a full covariance matrix costs more than it can learn within any budget.
_FULL_COVARIANCE_DIM = 400


class CMAESOptions(Options):
    """Options of CMA-ES."""

    population: Annotated[
        int | None, Field(ge=5, le=1000, description="candidates per generation; 4 + 3 ln(genes)")
    ] = None
    step: Annotated[
        float, Field(gt=0, le=1, description="initial step size, in units of a gene's range")
    ] = 0.2


@optimizers.register
class CMAES:
    """Samples from a normal distribution that follows the better half of its samples.

    ``ask`` draws from the library's distribution, through its boundary handling, with the generator
    of the candidate; the library's own samples are dropped. So in every generation some candidates
    stem from the distribution before (as many as were in flight); they are told all the same.
    A run that has converged starts again from the best genome with the initial step size.
    """

    name: ClassVar[str] = "cma_es"
    summary: ClassVar[str] = "Follows the weighted mean of the objectives uphill; robust."
    source: ClassVar[str] = "Hansen 2016, arXiv:1604.00772, as in the library cma"
    options: ClassVar[type[Options]] = CMAESOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "preference"

    def __init__(self, task: Task, options: CMAESOptions) -> None:
        self._task = task
        self._options = options
        self._told = 0
        average = task.space.encode({"weight": 1.0 / len(task.space.parents)})
        self._opening: list[tuple[Candidate, NDArray[np.float64]]] = []
        self._unit = np.ones(len(task.objectives))
        self._constraints = task.constraints()
        self._best: tuple[_Merit, Genome] = ((np.inf, -np.inf), average)
        self._generation: list[tuple[Genome, _Merit | None]] = []
        self._restarts = 0
        self._start()

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
        values = self._task.values(outcome)
        self._constraints.learn(outcome.candidate.ordinal, values)
        if self._told <= self._task.opening:
            if values is not None:
                self._opening.append((outcome.candidate, values))
            if self._told == self._task.opening:
                self._open()
            return
        if outcome.candidate.genome is not None:
            genome = np.array(outcome.candidate.genome)
            merit = None if values is None else self._merit(values)
            self._compare(genome, merit)
            self._generation.append((genome, merit))
        if len(self._generation) == self._strategy.popsize:
            self._advance()

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: CMAESOptions) -> Mapping[str, str]:  # noqa: ARG004  # only genes matter
        return needs_genes(dim)

    def _open(self) -> None:
        """Find out in which units to compare objectives, and from which genome to start."""
        baselines = [values for candidate, values in self._opening if candidate.origin.is_baseline]
        self._unit = span(np.reshape(baselines, (-1, len(self._task.objectives))))
        for candidate, values in self._opening:
            if candidate.genome is not None:
                self._compare(np.array(candidate.genome), self._merit(values))
        self._opening.clear()
        self._start()

    def _merit(self, values: NDArray[np.float64]) -> _Merit:
        missed = float(self._constraints.violation(values))
        return missed, self._task.preference(values, self._unit)

    def _compare(self, genome: Genome, merit: _Merit | None) -> None:
        """Remember the best genome."""
        if merit is not None and (-merit[0], merit[1]) > (-self._best[0][0], self._best[0][1]):
            self._best = (merit, genome)

    def _start(self) -> None:
        """A new distribution around the best genome that was told, else the uniform average."""
        rng = self._task.generator(1, self._restarts)
        self._restarts += 1
        x0 = self._padded(self._best[1])
        settings = {
            "bounds": [0.0, 1.0],
            "randn": lambda *shape: rng.standard_normal(shape),
            "seed": np.nan,  # leave numpy's global generator alone
            "AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA,
            "CMA_diagonal": len(x0) > _FULL_COVARIANCE_DIM,
            "CMA_mirrors": 0,
            "signals_filename": "",
            "verbose": -10,
            "verb_log": 0,
        }
        if self._options.population is not None:
            settings["popsize"] = self._options.population
        self._strategy = cma.CMAEvolutionStrategy(x0, self._options.step, settings)
        self._refresh()

    def _advance(self) -> None:
        genomes = [self._padded(genome) for genome, _ in self._generation]
        losses = _losses([merit for _, merit in self._generation])
        self._generation = []
        self._strategy.tell(genomes, losses)
        if self._strategy.stop():
            self._start()
        else:
            self._refresh()

    def _refresh(self) -> None:
        """Let the library update its sampling and expect a generation; its points are dropped."""
        self._strategy.ask()

    def _padded(self, genome: Genome) -> NDArray[np.float64]:
        return genome if len(genome) > 1 else np.append(genome, 0.5)


def _losses(merits: list[_Merit | None]) -> list[float]:
    """Preferences turned around for a minimizer.

    What violates constraints is worse than all that does not, and what was not scored than both.
    """
    worst = max((-value for missed, value in filter(None, merits) if not missed), default=0.0)
    most = max((missed for missed, _ in filter(None, merits)), default=0.0)

    def loss(merit: _Merit | None) -> float:
        if merit is None:
            return worst + 1.0 + most + (1.0 if most else 0.0)
        missed, value = merit
        return worst + 1.0 + missed if missed else -value

    return [loss(merit) for merit in merits]
