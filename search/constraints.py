"""What candidates must hold, and by how much they miss it: feasible first, in every optimizer.

Of two candidates the one that violates less is the better one; only those that violate equally
(mostly: not at all) are compared by their scores. Deb 2000, doi:10.1016/S0045-7825(99)00389-8, with
violations in units that make objectives comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from search.pareto import span
from search.spec import Bound, Objective, Relative

Vector = NDArray[np.float64]

# A bound that is a sum of floats is missed by no less than this, in units of the violation.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class _Limit:
    """A bound inside, where higher is better: ``sign`` turns the user's number around."""

    column: int
    bound: Bound
    is_lower: bool
    sign: float


class Constraints:
    """The bounds of the objectives, as far as the outcomes of base and parents tell where they lie.

    A bound that is relative to a score that nobody has (the base could not be scored) holds nobody.

    Args:
        objectives: with their bounds, which are in the metric's own sign.
        directions: objective key -> whether higher is better; it is where this is silent.
        parents: number of parents; the base has ordinal 0, and they follow it.
        floor: (objectives,) what must be reached besides; None where nothing must.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        directions: Mapping[str, bool],
        parents: int,
        *,
        floor: Vector | None = None,
    ) -> None:
        self._count = len(objectives)
        self._floor = np.full(self._count, -np.inf) if floor is None else floor
        self._parents = parents
        self._seen: dict[int, Vector | None] = {}
        self._limits = [
            _Limit(column, bound, is_lower == higher, 1.0 if higher else -1.0)
            for column, objective in enumerate(objectives)
            for higher in (directions.get(objective.key, True),)
            for bound, is_lower in ((objective.at_least, True), (objective.at_most, False))
            if bound is not None
        ]
        self._resolve()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._limits) or bool(np.isfinite(self._floor).any())

    @property
    def is_settled(self) -> bool:
        """Whether every bound is known for good."""
        relative = any(isinstance(limit.bound, Relative) for limit in self._limits)
        return not self or (len(self._seen) > self._parents or not relative)

    def learn(self, ordinal: int, values: Vector | None) -> None:
        """Take note of (objectives,) scores, None where there are none; only of base and parents.

        In whatever order, and as often as one likes.
        """
        if self and ordinal <= self._parents:
            self._seen[ordinal] = values
            self._resolve()

    @property
    def low(self) -> Vector:
        """(objectives,) what must be reached; minus infinity where nothing must, or is known."""
        return self._low

    @property
    def high(self) -> Vector:
        """(objectives,) what must not be exceeded; infinity likewise."""
        return self._high

    def excess(self, points: ArrayLike) -> NDArray[np.float64]:
        """(..., bounds) by how much (..., objectives) points miss each known bound, with a sign.

        In the units of the violation; not above 0 where a bound is held.
        """
        values = np.asarray(points, dtype=np.float64)
        missed = np.concatenate((self._low - values, values - self._high), axis=-1)
        known = np.isfinite(np.concatenate((self._low, self._high)))
        found = (missed / np.tile(self._unit, 2))[..., known]
        return np.where(found > _ROUNDING, found, np.minimum(found, 0.0))

    def violation(self, points: ArrayLike) -> NDArray[np.float64]:
        """(...) by how much (..., objectives) points miss the bounds; 0 where they hold all.

        The sum over the bounds, each in spans of base and parents in that objective.
        """
        values = np.asarray(points, dtype=np.float64)
        missed = np.maximum(self._low - values, 0.0) + np.maximum(values - self._high, 0.0)
        missed = missed / self._unit
        return np.asarray(np.where(missed > _ROUNDING, missed, 0.0).sum(axis=-1))

    def violated(self, point: Vector) -> NDArray[np.bool_]:
        """(objectives,) whose bounds a point misses."""
        return np.array([self.violation(self._alone(point, i)) > 0 for i in range(self._count)])

    def chance(self, mean: NDArray[np.float64], sd: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) probability that (n, objectives) normally distributed scores exceed no upper bound.

        Lower bounds are left to whoever measures hypervolume above them.
        """
        return np.asarray(ndtr((self._high - mean) / np.maximum(sd, 1e-12)).prod(axis=-1))

    def _alone(self, point: Vector, column: int) -> Vector:
        """A point that can miss the bounds of one objective only: NaN misses none."""
        return np.where(np.arange(self._count) == column, point, np.nan)

    def _resolve(self) -> None:
        points = [values for values in self._seen.values() if values is not None]
        self._unit = span(np.reshape(points, (-1, self._count)))
        self._low = self._floor.copy()
        self._high = np.full(self._count, np.inf)
        for limit in self._limits:
            value = self._value(limit)
            if value is None:
                continue
            if limit.is_lower:
                self._low[limit.column] = max(self._low[limit.column], value)
            else:
                self._high[limit.column] = min(self._high[limit.column], value)

    def _value(self, limit: _Limit) -> float | None:
        """Where a bound lies, or None where that is not known."""
        if not isinstance(limit.bound, Relative):
            return limit.sign * limit.bound
        ordinals = (0,) if limit.bound.base is not None else range(1, self._parents + 1)
        if any(ordinal not in self._seen for ordinal in ordinals):
            return None
        seen = [self._seen[ordinal] for ordinal in ordinals]
        scores = [values[limit.column] for values in seen if values is not None]
        return max(scores) + limit.sign * limit.bound.margin if scores else None
