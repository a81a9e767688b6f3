"""How much hypervolume a point that is not known for sure can be expected to add.

All points are maximized, as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# So many points at a time stay in the processor's cache.
_CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """The space above a reference that a front does not dominate, in boxes that do not overlap.

    Args:
        low: (boxes, m) the corners nearest to the reference.
        high: (boxes, m) the corners opposite; infinite where nothing bounds a box.
    """

    low: Matrix
    high: Matrix

    @classmethod
    def beyond(cls, points: Matrix, reference: Vector) -> Boxes:
        """Around (n, m) points that do not dominate each other, above a reference (m,).

        One point after the other splits the boxes that it reaches into (local lower bounds with
        their defining points: Lacour, Klamroth, Fonseca 2017, Computers & Operations Research 79,
        algorithm 2, for maximization). It needs points that differ in every objective, so it works
        on ranks.
        """
        n, m = points.shape
        # 0 is the reference, n + 1 is infinity; of equal coordinates the later is the higher rank.
        order = np.argsort(points, axis=0, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(1, n + 1)[:, None], axis=0)
        corner = np.zeros((1, m), dtype=np.int64)
        # [box, point, coordinate]: the point that bounds a box from below in an objective.
        bounding = np.full((1, m, m), n + 1)
        bounding[0, range(m), range(m)] = 0
        others = [[i for i in range(m) if i != j] for j in range(m)]
        for point in ranks[np.argsort(-ranks[:, -1])]:
            reached = (point > corner).all(axis=1)
            split, split_bounding = corner[reached], bounding[reached]
            corners, boundings = [corner[~reached]], [bounding[~reached]]
            for j in range(m):
                fits = point[j] < split_bounding[:, others[j], j].min(axis=1, initial=n + 2)
                raised, bounded = split[fits], split_bounding[fits]
                raised[:, j], bounded[:, j] = point[j], point
                corners.append(raised)
                boundings.append(bounded)
            corner, bounding = np.concatenate(corners), np.concatenate(boundings)
        top = np.full_like(corner, n + 1)
        for j in range(1, m):
            top[:, j] = bounding[:, :j, j].min(axis=1)
        ends = np.full((1, m), np.inf)
        levels = np.concatenate((reference[None], np.take_along_axis(points, order, axis=0), ends))
        low = np.take_along_axis(levels, corner, axis=0)
        high = np.take_along_axis(levels, top, axis=0)
        solid = (low < high).all(axis=1)
        return cls(low[solid], high[solid])

    def expected_gain(self, mean: Matrix, sd: Matrix) -> Vector:
        """(n,) expected gain of hypervolume of points with independent normal objectives.

        The integral over each box is a product of one-dimensional ones (Yang, Emmerich, Deutz,
        Baeck 2019, Journal of Global Optimization 75, eq. 13).

        Args:
            mean: (n, m).
            sd: (n, m), positive.
        """
        sides = [
            np.unique(np.concatenate((low, high)), return_inverse=True)
            for low, high in zip(self.low.T, self.high.T, strict=True)
        ]
        total = np.empty(len(mean))
        for start in range(0, len(mean), _CHUNK):
            part = slice(start, start + _CHUNK)
            gain = np.empty(0)
            for j, (edges, place) in enumerate(sides):
                # A row to an edge: boxes gather whole rows, which lie together in memory.
                above = _expected_excess(mean[part, j], sd[part, j], edges[:, None])
                low, high = np.split(place, 2)
                side = above[low]
                side -= above[high]
                gain = np.multiply(gain, side, out=side) if j else side
            total[part] = gain.sum(axis=0)
        return total


def _expected_excess(mean: Vector, sd: Vector, edges: Matrix) -> Matrix:
    """(k, n) E[max(Y - edge, 0)] for normal Y and (k, 1) edges; 0 beyond an infinite one."""
    finite = np.isfinite(edges)
    z = (mean - np.where(finite, edges, 0.0)) / sd
    excess = sd * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi))
    return np.where(finite, excess, 0.0)
