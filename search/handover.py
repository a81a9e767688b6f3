"""CMA-ES from where another search has come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from search.optimizer import Task
from search.optimizers.cma_es import CMAES, CMAESOptions
from search.outcome import Candidate, Outcome

# What made a candidate that comes from here.
MOVE = "evolution"
# Smaller than what CMA-ES would begin with: a good region is known by then.
_STEP = 0.1


class Handover:
    """Takes part once so many candidates are scored, beginning at the best of them.

    It remembers the opening, which says in which units objectives are compared, and the best; from
    then on it learns from the candidates that it proposed itself.

    Args:
        task: of the whole search.
        after: how many scored candidates it waits for.
    """

    def __init__(self, task: Task, after: int) -> None:
        self._task = task
        self._waits_for = after
        self._constraints = task.constraints()
        self._opening: list[Outcome] = []
        self._best: tuple[tuple[float, float], Outcome] | None = None
        self._strategy: CMAES | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it can be asked."""
        return self._strategy is not None

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate]
    ) -> Candidate:
        """The candidate of CMA-ES at an ordinal, which tells that it is one."""
        if self._strategy is None:
            raise RuntimeError("CMA-ES has not begun yet")
        candidate = self._strategy.ask(ordinal, rng, pending)
        return replace(candidate, origin=replace(candidate.origin, move=MOVE))

    def tell(self, outcome: Outcome) -> None:
        """Every outcome, in ordinal order, whoever proposed it."""
        if self._strategy is not None:
            if outcome.candidate.origin.move == MOVE:
                self._strategy.tell(outcome)
            return
        values = self._task.values(outcome)
        self._constraints.learn(outcome.candidate.ordinal, values)
        if outcome.candidate.ordinal < self._task.opening:
            self._opening.append(outcome)
        if values is None or outcome.candidate.genome is None:
            return
        merit = (-float(self._constraints.violation(values)), float(values.sum()))
        if self._best is None or merit > self._best[0]:
            self._best = (merit, outcome)
        self._waits_for -= 1
        if self._waits_for == 0:
            self._begin(self._best[1])

    def _begin(self, best: Outcome) -> None:
        known = [*self._opening, best]
        task = replace(self._task, opening=len(known))
        self._strategy = CMAES(task, CMAESOptions(step=_STEP))
        for outcome in known:
            self._strategy.tell(outcome)
        self._opening.clear()
