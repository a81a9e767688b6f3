"""What an optimizer is: asked without being changed, changed only by being told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from search.geometry import Geometry
from search.outcome import Candidate, Outcome
from search.registry import Registry
from search.space import SearchSpace
from search.spec import Objective


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
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    opening: int
    parallel: int
    seed: int
    geometry: Geometry | None = None


class Optimizer(Protocol):
    """A search strategy.

    ``ask`` is a pure function of what was told, the ordinal and the generator: asking twice gives
    the same candidate, not asking changes nothing. ``tell`` receives every outcome once, in
    ordinal order, including those of the opening. An infeasible outcome ranks below every scored
    one.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    options: ClassVar[type[Options]]
    needs_geometry: ClassVar[bool]

    def ask(self, ordinal: int, rng: np.random.Generator) -> Candidate:
        """The candidate at this ordinal."""

    def tell(self, outcome: Outcome) -> None:
        """Learn from the next outcome."""


class OptimizerClass(Protocol):
    """An optimizer before it has something to work on."""

    name: str
    summary: str
    source: str
    options: type[Options]
    needs_geometry: bool

    def __call__(self, task: Task, options: Options) -> Optimizer:
        """Set to work."""

    @staticmethod
    def problems(
        spec_method: str, dim: int, objectives: int, options: Options
    ) -> Mapping[str, str]:
        """Field -> message for what this optimizer cannot do."""


optimizers: Registry[OptimizerClass] = Registry("optimizer", "search.optimizers")
