"""One number for each outcome, for optimizers that need one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.optimizer import Task
from search.outcome import Outcome
from search.pareto import preference, span

Vector = NDArray[np.float64]


class Merit(NamedTuple):
    """How good a candidate is: greater is better, in this order.

    Args:
        held: minus the violation of the constraints; 0 where all are held.
        preference: the mean of the objectives by their weights, in spans of the baselines.
    """

    held: float
    preference: float


WORST = Merit(-np.inf, -np.inf)


class Merits:
    """Judges scores by the weights and constraints of a task.

    Told every outcome; the units of objectives are those of the baselines that are known by then,
    and settled when all are.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._baselines: list[Vector] = []
        self._weights = [objective.weight for objective in task.objectives]
        self.constraints = task.constraints()
        self.unit = np.ones(len(task.objectives))

    def learn(self, outcome: Outcome) -> Vector | None:
        """Take note of an outcome; returns its (objectives,) scores, or None without."""
        values, candidate = self._task.values(outcome), outcome.candidate
        self.constraints.learn(candidate.ordinal, values)
        is_baseline = candidate.ordinal < self._task.opening and candidate.origin.is_baseline
        if values is not None and is_baseline:
            self._baselines.append(values)
            self.unit = span(self._baselines)
        return values

    def __call__(self, values: Vector | None) -> Merit:
        """The merit of (objectives,) scores; the worst of all where there are none."""
        if values is None:
            return WORST
        missed = float(self.constraints.violation(values))
        return Merit(-missed, float(preference(values, self._weights, self.unit)))
