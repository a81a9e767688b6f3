"""The best trade-offs so far: a bounded set of members of which none is dominated."""

from __future__ import annotations

from typing import Generic, TypeVar

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

Member = TypeVar("Member")


class FrontArchive(Generic[Member]):
    """Nondominated members, the least crowded ones where there are too many. All is maximized.

    A member is admitted unless another one is at least as good in everything, so of equal points
    the first stays. Those that it dominates leave. Above the capacity the most crowded member
    leaves, the newest of several: that may be the one just admitted, and is never the only one
    that is best in an objective while there is room for all of those.

    Args:
        capacity: greatest number of members.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"an archive holds at least one member, not {capacity}")
        self.capacity = capacity
        self.members: list[Member] = []
        self._points: list[NDArray[np.float64]] = []

    def __len__(self) -> int:
        return len(self.members)

    @property
    def points(self) -> NDArray[np.float64]:
        """(members, objectives) points, oldest first."""
        return np.array(self._points, dtype=np.float64)

    def add(self, member: Member, point: ArrayLike) -> bool:
        """Offer a member at a finite (objectives,) point; whether it was admitted and stayed."""
        new = np.array(point, dtype=np.float64)
        if not np.isfinite(new).all():
            raise ValueError(f"a point of the front must be finite, not {new.tolist()}")
        if any((old >= new).all() for old in self._points):
            return False
        kept = [i for i, old in enumerate(self._points) if not (new >= old).all()]
        self.members = [self.members[i] for i in kept] + [member]
        self._points = [self._points[i] for i in kept] + [new]
        if len(self.members) <= self.capacity:
            return True
        leaves = most_crowded(self.points)
        del self.members[leaves], self._points[leaves]
        return leaves != self.capacity


def ranks(points: ArrayLike) -> NDArray[np.int64]:
    """(n,) number of the front that each of (n, m) points lies on; 0 is the nondominated one."""
    matrix = np.asarray(points, dtype=np.float64)
    if len(matrix) == 0:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(moocore.pareto_rank(-matrix), dtype=np.int64)


def crowding(points: ArrayLike) -> NDArray[np.float64]:
    """(n,) crowding distances of (n, m) points of one front; infinite for the best of an objective.

    Deb et al. 2002, section III-B: half the perimeter of the box between the neighbours, in units
    of the front's extent. An objective in which all agree does not count.
    """
    matrix = np.asarray(points, dtype=np.float64)
    distance = np.zeros(len(matrix))
    for column in matrix.T:
        order = np.argsort(column, kind="stable")
        extent = column[order[-1]] - column[order[0]]
        if extent == 0:
            continue
        distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / extent
        distance[order[[0, -1]]] = np.inf
    return distance


def most_crowded(points: ArrayLike) -> int:
    """Index of the most crowded of (n, m) points; the last one of several."""
    distance = crowding(points)
    return len(distance) - 1 - int(np.argmin(distance[::-1]))
