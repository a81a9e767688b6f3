"""Fronts behind fronts, and how crowded a place on one is: what NSGA-II lets survive."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray


def ranks(points: ArrayLike, violation: ArrayLike | None = None) -> NDArray[np.int64]:
    """(n,) number of the front that each of (n, m) points lies on; 0 is the nondominated one.

    Points that violate constraints come after all that do not, in the order of their violation:
    Deb et al. 2002, section VI-A.

    Args:
        points: scores.
        violation: (n,) not negative; None where nothing is violated.
    """
    matrix = np.asarray(points, dtype=np.float64)
    if len(matrix) == 0:
        return np.zeros(0, dtype=np.int64)
    missed = np.zeros(len(matrix)) if violation is None else np.asarray(violation)
    rank = np.zeros(len(matrix), dtype=np.int64)
    holds = missed == 0
    if holds.any():
        rank[holds] = moocore.pareto_rank(-matrix[holds])
    behind = np.unique(missed[~holds], return_inverse=True)[1]
    rank[~holds] = behind + (rank[holds].max() + 1 if holds.any() else 0)
    return rank


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
