"""Puts candidates in order by what they score on one split: constraints first, then preference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search.constraints import Constraints
from search.pareto import first_front, preference, span
from search.spec import Objective

# (objectives,) scores by ordinal, those of the baselines among them.
Points = Mapping[int, NDArray[np.float64]]


class Ranking:
    """Who comes before whom; constraints and units follow from the baselines at hand.

    Args:
        objectives: with the weights of the preference, and their bounds.
        directions: objective key -> whether higher is better, in which bounds are written.
        parents: number of parents; the base has ordinal 0, and they follow it.
        baselines: ordinals of base, parents and average.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        directions: Mapping[str, bool],
        *,
        parents: int,
        baselines: Sequence[int],
    ) -> None:
        self.objectives = tuple(objectives)
        self._directions = directions
        self._parents = parents
        self._baselines = tuple(baselines)

    def unit(self, points: Points) -> NDArray[np.float64]:
        """(objectives,) what each is measured in: spans of the baselines."""
        return span(self._matrix(points, [n for n in self._baselines if n in points]))

    def violations(self, points: Points) -> dict[int, float]:
        """By how much everyone misses the constraints, 0 for all."""
        constraints = Constraints(self.objectives, self._directions, self._parents)
        for n in range(1 + self._parents):
            constraints.learn(n, points.get(n))
        missed = constraints.violation(self._matrix(points, list(points)))
        return dict(zip(points, missed.tolist(), strict=True))

    def preferences(
        self, points: Points, weights: Mapping[str, float] | None = None
    ) -> dict[int, float]:
        """The mean of everyone's scores, each in its unit.

        Args:
            points: scores.
            weights: by objective, not negative, 0 where silent; those of the spec by default.
        """
        if not points:
            return {}
        wanted = {o.key: o.weight for o in self.objectives} if weights is None else weights
        values = preference(
            self._matrix(points, list(points)),
            [wanted.get(objective.key, 0.0) for objective in self.objectives],
            self.unit(points),
        )
        return dict(zip(points, values.tolist(), strict=True))

    def order(
        self,
        points: Points,
        among: Iterable[int],
        weights: Mapping[str, float] | None = None,
    ) -> list[int]:
        """Some of them, the best first, the lowest ordinal of equals; arguments as above."""
        missed, values = self.violations(points), self.preferences(points, weights)
        return sorted(set(among) & set(points), key=lambda n: (missed[n], -values[n], n))

    def front(self, points: Points, among: Sequence[int]) -> list[int]:
        """Those of some that none of them dominates, in the order in which they are given."""
        missed = self.violations(points)
        violation = np.array([missed[n] for n in among])
        mask = first_front(self._matrix(points, among), violation)
        return [n for n, on_front in zip(among, mask, strict=True) if on_front]

    def _matrix(self, points: Points, ordinals: Sequence[int]) -> NDArray[np.float64]:
        return np.reshape([points[n] for n in ordinals], (-1, len(self.objectives)))
