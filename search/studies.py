"""Studies of Optuna, made anew for a sampler from what was told, and never larger than it needs."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, QMCSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.optimizer import Task
from search.outcome import Candidate
from search.pareto import first_front
from search.space import Genome

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

optuna.logging.set_verbosity(optuna.logging.WARNING)  # it writes a line for every study

# What could not be scored is worse than the worst that was, by this part of the scores' range.
_WORSE = 0.1
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What was told of a genome: (objectives,) scores, NaN where there are none."""

    genome: tuple[float, ...]
    values: Vector


class _Trial(FrozenTrial):
    """A trial that need not be copied deeply when it enters a study: nobody changes its parts."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Trial:
        return copy.copy(self)


class Studies:
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

    def complete(self, known: Sequence[Known]) -> list[FrozenTrial]:
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


class Memory(Protocol):
    """What a sampler is shown of what was told; its size does not grow without end."""

    def learn(self, known: Known) -> None:
        """Take note."""

    def ask(self, index: int, rng: np.random.Generator, waiting: Sequence[Candidate]) -> Genome:
        """What the sampler proposes, as the optimizer's own candidate of this index."""

    def status(self) -> str:
        """What the sampler is shown, in a sentence."""


class Recent:
    """So many outcomes: the front and the newest. What leaves is the oldest that no front holds."""

    def __init__(
        self, name: str, studies: Studies, most: int, sampler: Callable[[int], BaseSampler]
    ) -> None:
        self._name = name
        self._studies = studies
        self._most = most
        self._sampler = sampler
        self._known: list[Known] = []

    def learn(self, known: Known) -> None:
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
        study = studies.study(self._sampler(seed_of(rng)), trials)
        return _asked(study, studies.genes)

    def status(self) -> str:
        which = "all that are known" if len(self._known) < self._most else "the front, the newest"
        return f"Optuna's {self._name} learns from {len(self._known)} outcomes: {which}."


class Generations:
    """A generation and the parents of the next: what is told, from whenever, fills generations.

    Optuna finds the generation of a trial, and its parents, in attributes of trial and study. It
    would leave out what was still in flight when a generation was full; here it counts for the
    next.
    """

    def __init__(
        self,
        studies: Studies,
        task: Task,
        population: int,
        sampler: Callable[[int], NSGAIISampler | NSGAIIISampler],
    ) -> None:
        self._studies = studies
        self._task = task
        self._population = population
        self._sampler = sampler
        self._generation = 0
        self._parents: list[Known] = []
        self._members: list[Known] = []

    def learn(self, known: Known) -> None:
        self._members.append(known)
        if len(self._members) < self._population:
            return
        everyone = self._parents + self._members
        sampler = self._sampler(seed_of(self._task.generator(1, self._generation)))
        study = self._study(sampler)
        self._generation += 1
        chosen = sampler.select_parent(study, self._generation)
        self._parents = [everyone[trial.number] for trial in chosen]
        self._members = []

    def ask(self, index: int, rng: np.random.Generator, waiting: Sequence[Candidate]) -> Genome:  # noqa: ARG002  # as the protocol has it
        sampler = self._sampler(seed_of(rng))
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


class Points:
    """The points of a sequence by index: nothing is remembered."""

    def __init__(self, studies: Studies, sampler: QMCPoints) -> None:
        self._studies = studies
        self._sampler = sampler

    def learn(self, known: Known) -> None:
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
        with experimental():
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
def experimental() -> Iterator[None]:
    """For what Optuna has called experimental since its third version, with a warning each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def seed_of(rng: np.random.Generator) -> int:
    """A seed for numpy's old generator, which is what Optuna has."""
    return int(rng.integers(2**32))


def _asked(study: Study, genes: Mapping[str, BaseDistribution]) -> Genome:
    trial = study.ask(dict(genes))
    return np.clip([float(trial.params[name]) for name in genes], 0.0, 1.0)
