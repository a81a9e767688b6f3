"""Optuna's samplers: each is made anew for a candidate, and shown a study of what was told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from optuna.samplers import GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler
from pydantic import Field

from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.outcome import Candidate, Origin, Outcome
from search.spec import SearchSpec
from search.studies import (
    Generations,
    Known,
    Memory,
    Points,
    QMCPoints,
    Recent,
    Studies,
    experimental,
    seed_of,
)

# A sampler's time grows with what it is shown: with the square for TPE's fronts, the cube for GPs.
_TPE_SEES, _GP_SEES = 500, 150


class TPEOptions(Options):
    """Options of TPE."""

    startup: Annotated[
        int,
        Field(ge=1, le=10_000, description="outcomes before the first model; random until then"),
    ] = 10
    multivariate: Annotated[
        bool | None,
        Field(description="model genes jointly; null as Optuna does: where there is one objective"),
    ] = None


class GPOptions(Options):
    """Options of the Gaussian processes."""

    startup: Annotated[
        int,
        Field(ge=1, le=10_000, description="outcomes before the first model; random until then"),
    ] = 10


class NSGAOptions(Options):
    """Options of NSGA-II and NSGA-III."""

    population: Annotated[int, Field(ge=4, le=1000, description="members of a generation")] = 20


class QMCOptions(Options):
    """Options of quasi-random points."""

    sequence: Annotated[Literal["sobol", "halton"], Field(description="whose, scrambled")] = "sobol"


class _Sampling:
    """An optimizer of this service that proposes what a sampler of Optuna does."""

    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, studies: Studies, memory: Memory) -> None:
        self._task = task
        self._constraints = studies.constraints
        self._memory = memory

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        genome = self._memory.ask(ordinal - self._task.opening, rng, pending)
        return self._task.candidate(ordinal, genome, Origin("sample"))

    def tell(self, outcome: Outcome) -> None:
        values, genome = self._task.values(outcome), outcome.candidate.genome
        self._constraints.learn(outcome.candidate.ordinal, values)
        if genome is not None:
            unknown = np.full(len(self._task.objectives), np.nan)
            self._memory.learn(Known(genome, unknown if values is None else values))

    def status(self) -> str:
        """What it is at, in a sentence."""
        return self._memory.status()


@dataclass(frozen=True, slots=True)
class OptunaOptimizer:
    """One sampler as an optimizer.

    Differs from the sampler under Optuna: candidates that violate constraints (and in trials of
    optimizers what lies below a floor) are told as such; those that could not be scored as worse
    than all others, not left out; those in flight as running.

    Args:
        memory: what the sampler is shown, for options of the type ``options``.
    """

    name: str
    summary: str
    source: str
    options: type[Options]
    memory: Callable[[Task, Studies, Any], Memory]
    needs_geometry: bool = False

    def __call__(self, task: Task, options: Any, /) -> _Sampling:
        """Set to work."""
        studies = Studies(task)
        return _Sampling(task, studies, self.memory(task, studies, options))

    def problems(self, spec: SearchSpec, dim: int, options: Any, /) -> Mapping[str, str]:  # noqa: ARG002  # only genes matter
        return needs_genes(dim)


def _tpe(task: Task, studies: Studies, options: TPEOptions) -> Memory:  # noqa: ARG001  # as all of them
    return Recent(
        "TPE",
        studies,
        _TPE_SEES,
        lambda seed: TPESampler(
            seed=seed, n_startup_trials=options.startup, multivariate=options.multivariate
        ),
    )


def _gp(task: Task, studies: Studies, options: GPOptions) -> Memory:  # noqa: ARG001  # as all of them
    return Recent(
        "Gaussian processes",
        studies,
        _GP_SEES,
        lambda seed: GPSampler(seed=seed, n_startup_trials=options.startup),
    )


def _nsga2(task: Task, studies: Studies, options: NSGAOptions) -> Memory:
    size = options.population
    return Generations(
        studies, task, size, lambda seed: NSGAIISampler(population_size=size, seed=seed)
    )


def _nsga3(task: Task, studies: Studies, options: NSGAOptions) -> Memory:
    size = options.population

    def sampler(seed: int) -> NSGAIIISampler:
        with experimental():
            return NSGAIIISampler(population_size=size, seed=seed)

    return Generations(studies, task, size, sampler)


def _qmc(task: Task, studies: Studies, options: QMCOptions) -> Memory:
    seed = seed_of(task.generator(0))
    return Points(studies, QMCPoints(options.sequence, studies.genes, seed))


for declared in (
    OptunaOptimizer(
        name="optuna_tpe",
        summary="Samples where good candidates are dense and others are not; knows constraints.",
        source="Watanabe 2023, arXiv:2304.11127, as in the library optuna",
        options=TPEOptions,
        memory=_tpe,
    ),
    OptunaOptimizer(
        name="optuna_gp",
        summary="Gaussian processes as Optuna has them; thorough, and slow with many objectives.",
        source="Daulton et al. 2020, arXiv:2006.05078, as in the library optuna",
        options=GPOptions,
        memory=_gp,
    ),
    OptunaOptimizer(
        name="optuna_nsga2",
        summary="NSGA-II in generations, with uniform crossover, as Optuna has it.",
        source="Deb et al. 2002, doi:10.1109/4235.996017, as in the library optuna",
        options=NSGAOptions,
        memory=_nsga2,
    ),
    OptunaOptimizer(
        name="optuna_nsga3",
        summary="NSGA-III: as NSGA-II, spread along reference directions; for many objectives.",
        source="Deb and Jain 2014, doi:10.1109/TEVC.2013.2281535, as in the library optuna",
        options=NSGAOptions,
        memory=_nsga3,
    ),
    OptunaOptimizer(
        name="optuna_qmc",
        summary="Sobol' or Halton points, whatever the scores, as Optuna has them.",
        source="Bergstra and Bengio 2012, JMLR 13, as in the library optuna",
        options=QMCOptions,
        memory=_qmc,
    ),
):
    optimizers.register(declared)
