"""Optuna's samplers: each is made anew for a candidate, and shown a study of what was told."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    TPESampler,
)
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.outcome import Candidate, Origin, Outcome
from search.pareto import first_front
from search.space import Genome
from search.spec import SearchSpec

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it writes a line for every study

# A sampler's time grows with what it is shown: with the square for TPE's fronts, the cube for GPs.
_TPE_SEES, _GP_SEES = 500, 150
# What could not be scored is worse than the worst that was, by this part of the scores' range.
_WORSE = 0.1
_EPOCH = datetime.fromtimestamp(0, UTC)


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


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What was told of a genome: (objectives,) scores, NaN where there are none."""

    genome: tuple[float, ...]
    values: Vector


class _Trial(FrozenTrial):
    """A trial that need not be copied deeply when it enters a study: nobody changes its parts."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Trial:
        return copy.copy(self)


class _Studies:
    """Makes studies in memory: a parameter for each gene, all objectives maximized."""

    def __init__(self, task: Task) -> None:
        self.objectives = len(task.objectives)
        self.constraints = task.demands()
        gene = FloatDistribution(0.0, 1.0)
        self.genes: dict[str, BaseDistribution] = {f"{i:05d}": gene for i in range(task.space.dim)}

    def study(
        self,
        sampler: BaseSampler,
        trials: Sequence[FrozenTrial],
        storage: InMemoryStorage | None = None,
    ) -> Study:
        """A study whose trials have the numbers 0, 1 ... in this order."""
        found = optuna.create_study(
            storage=storage or InMemoryStorage(),
            sampler=sampler,
            study_name="search",
            directions=["maximize"] * self.objectives,
        )
        found.add_trials(trials)
        return found

    def complete(self, known: Sequence[_Known]) -> list[FrozenTrial]:
        """What was told, as trials; what could not be scored is worse than all that was."""
        values = np.reshape([k.values for k in known], (-1, self.objectives))
        values = _filled(values, worst=np.min, sign=-1.0)
        excess = self.constraints.excess(np.reshape([k.values for k in known], values.shape))
        excess = _filled(excess, worst=np.max, sign=1.0)
        trials = []
        for item, scores, missed in zip(known, values.tolist(), excess.tolist(), strict=True):
            trial = self._trial(item.genome, scores)
            for bound, amount in enumerate(missed):
                trial.set_constraint(str(bound), amount)
            trials.append(trial)
        return trials

    def running(self, genomes: Sequence[tuple[float, ...]]) -> list[FrozenTrial]:
        """Candidates in flight."""
        return [self._trial(genome, None) for genome in genomes]

    def _trial(self, genome: tuple[float, ...], values: list[float] | None) -> FrozenTrial:
        return _Trial(
            number=-1,
            trial_id=-1,
            state=TrialState.RUNNING if values is None else TrialState.COMPLETE,
            value=None,
            values=values,
            datetime_start=_EPOCH,
            datetime_complete=None if values is None else _EPOCH,
            params=dict(zip(self.genes, genome, strict=True)),
            distributions=self.genes,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )


def _filled(values: Matrix, *, worst: Callable[..., Vector], sign: float) -> Matrix:
    """(n, m) numbers with rows of NaN made worse than the worst of their columns."""
    known = values[np.isfinite(values).all(axis=1)]
    if len(known) == 0 or values.shape[1] == 0:
        return np.zeros_like(values)
    bad = worst(known, axis=0) + sign * _WORSE * np.ptp(known, axis=0)
    return np.where(np.isfinite(values), values, bad)


class _Memory(Protocol):
    """What a sampler is shown of what was told; its size does not grow without end."""

    def learn(self, known: _Known) -> None:
        """Take note."""

    def ask(self, index: int, rng: np.random.Generator, waiting: Sequence[Candidate]) -> Genome:
        """What the sampler proposes, as the optimizer's own candidate of this index."""

    def status(self) -> str:
        """What the sampler is shown, in a sentence."""


class _Recent:
    """So many outcomes: the front and the newest. What leaves is the oldest that no front holds."""

    def __init__(
        self, name: str, studies: _Studies, most: int, sampler: Callable[[int], BaseSampler]
    ) -> None:
        self._name = name
        self._studies = studies
        self._most = most
        self._sampler = sampler
        self._known: list[_Known] = []

    def learn(self, known: _Known) -> None:
        self._known.append(known)
        if len(self._known) > self._most:
            del self._known[self._least()]

    def _least(self) -> int:
        values = np.stack([known.values for known in self._known])
        values = _filled(values, worst=np.min, sign=-1.0)
        kept = first_front(values, self._studies.constraints.violation(values))
        # A front that fills the memory would leave no room for what is worse, and no contrast.
        return int(np.argmin(kept)) if kept.sum() <= self._most // 2 else 0

    def ask(self, index: int, rng: np.random.Generator, waiting: Sequence[Candidate]) -> Genome:  # noqa: ARG002  # as the protocol has it
        studies = self._studies
        flying = [candidate.genome for candidate in waiting if candidate.genome is not None]
        trials = studies.complete(self._known) + studies.running(flying)
        study = studies.study(self._sampler(_seed(rng)), trials)
        return _asked(study, studies.genes)

    def status(self) -> str:
        which = "all that are known" if len(self._known) < self._most else "the front, the newest"
        return f"Optuna's {self._name} learns from {len(self._known)} outcomes: {which}."


class _Generations:
    """A generation and the parents of the next: what is told, from whenever, fills generations.

    Optuna finds the generation of a trial, and its parents, in attributes of trial and study. It
    would leave out what was still in flight when a generation was full; here it counts for the
    next.
    """

    def __init__(
        self,
        studies: _Studies,
        task: Task,
        population: int,
        sampler: Callable[[int], NSGAIISampler | NSGAIIISampler],
    ) -> None:
        self._studies = studies
        self._task = task
        self._population = population
        self._sampler = sampler
        self._generation = 0
        self._parents: list[_Known] = []
        self._members: list[_Known] = []

    def learn(self, known: _Known) -> None:
        self._members.append(known)
        if len(self._members) < self._population:
            return
        everyone = self._parents + self._members
        sampler = self._sampler(_seed(self._task.generator(1, self._generation)))
        study = self._study(sampler)
        self._generation += 1
        chosen = sampler.select_parent(study, self._generation)
        self._parents = [everyone[trial.number] for trial in chosen]
        self._members = []

    def ask(self, index: int, rng: np.random.Generator, waiting: Sequence[Candidate]) -> Genome:  # noqa: ARG002  # as the protocol has it
        sampler = self._sampler(_seed(rng))
        study = self._study(sampler)
        attributes = {f"{type(sampler).__name__}:generation": self._generation}
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, system_attrs=attributes))
        return _asked(study, self._studies.genes)

    def status(self) -> str:
        return (
            f"Generation {self._generation + 1} of Optuna's sampler: {len(self._members)} of "
            f"{self._population} members are scored."
        )

    def _study(self, sampler: NSGAIISampler | NSGAIIISampler) -> Study:
        """Parents, then members, under the names by which the sampler looks for them."""
        name = type(sampler).__name__
        trials = self._studies.complete(self._parents + self._members)
        for place, trial in enumerate(trials):
            is_parent = place < len(self._parents)
            trial.system_attrs[f"{name}:generation"] = self._generation - int(is_parent)
        storage = InMemoryStorage()
        study = self._studies.study(sampler, trials, storage)
        study_id = storage.get_study_id_from_name(study.study_name)
        parents = [
            storage.get_trial_id_from_study_id_trial_number(study_id, place)
            for place in range(len(self._parents))
        ]
        storage.set_study_system_attr(study_id, f"{name}:parent:{self._generation}", parents)
        return study


class _Sequence:
    """The points of a sequence by index: nothing is remembered."""

    def __init__(self, studies: _Studies, sampler: QMCPoints) -> None:
        self._studies = studies
        self._sampler = sampler

    def learn(self, known: _Known) -> None:
        pass

    def ask(self, index: int, rng: np.random.Generator, waiting: Sequence[Candidate]) -> Genome:  # noqa: ARG002  # as the protocol has it
        study = self._studies.study(self._sampler.at(index), ())
        return _asked(study, self._studies.genes)

    def status(self) -> str:
        return "Takes one point of Optuna's sequence after the other, whatever the scores."


class QMCPoints(QMCSampler):
    """Optuna's sampler, told which point of the sequence to take.

    By itself it counts what it was asked for in attributes of the study, and draws the first point
    at random, because it has not seen the space yet.
    """

    def __init__(self, sequence: str, genes: Mapping[str, BaseDistribution], seed: int) -> None:
        with _experimental():
            super().__init__(qmc_type=sequence, scramble=True, seed=seed)
        self._genes = dict(genes)
        self._index = 0

    def at(self, index: int) -> QMCPoints:
        """The same sequence, at an index counted from 0."""
        other = copy.copy(self)
        other._index = index
        return other

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002  # whose first trial would say what the space is
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return self._genes

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:  # noqa: ARG002  # both are known
        return self._index


@contextmanager
def _experimental() -> Iterator[None]:
    """For what Optuna has called experimental since its third version, with a warning each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _seed(rng: np.random.Generator) -> int:
    """A seed for numpy's old generator, which is what Optuna has."""
    return int(rng.integers(2**32))


def _asked(study: Study, genes: Mapping[str, BaseDistribution]) -> Genome:
    trial = study.ask(dict(genes))
    return np.clip([float(trial.params[name]) for name in genes], 0.0, 1.0)


class _Sampling:
    """An optimizer of this service that proposes what a sampler of Optuna does."""

    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, studies: _Studies, memory: _Memory) -> None:
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
            self._memory.learn(_Known(genome, unknown if values is None else values))

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
    memory: Callable[[Task, _Studies, Any], _Memory]
    needs_geometry: bool = False

    def __call__(self, task: Task, options: Any, /) -> _Sampling:
        """Set to work."""
        studies = _Studies(task)
        return _Sampling(task, studies, self.memory(task, studies, options))

    def problems(self, spec: SearchSpec, dim: int, options: Any, /) -> Mapping[str, str]:  # noqa: ARG002  # only genes matter
        return needs_genes(dim)


def _tpe(task: Task, studies: _Studies, options: TPEOptions) -> _Memory:  # noqa: ARG001  # as all of them
    return _Recent(
        "TPE",
        studies,
        _TPE_SEES,
        lambda seed: TPESampler(
            seed=seed, n_startup_trials=options.startup, multivariate=options.multivariate
        ),
    )


def _gp(task: Task, studies: _Studies, options: GPOptions) -> _Memory:  # noqa: ARG001  # as all of them
    return _Recent(
        "Gaussian processes",
        studies,
        _GP_SEES,
        lambda seed: GPSampler(seed=seed, n_startup_trials=options.startup),
    )


def _nsga2(task: Task, studies: _Studies, options: NSGAOptions) -> _Memory:
    size = options.population
    return _Generations(
        studies, task, size, lambda seed: NSGAIISampler(population_size=size, seed=seed)
    )


def _nsga3(task: Task, studies: _Studies, options: NSGAOptions) -> _Memory:
    size = options.population

    def sampler(seed: int) -> NSGAIIISampler:
        with _experimental():
            return NSGAIIISampler(population_size=size, seed=seed)

    return _Generations(studies, task, size, sampler)


def _qmc(task: Task, studies: _Studies, options: QMCOptions) -> _Memory:
    seed = _seed(task.generator(0))
    return _Sequence(studies, QMCPoints(options.sequence, studies.genes, seed))


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
