"""Fronts and hypervolume. All points are maximized."""

from __future__ import annotations

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray


def front(points: ArrayLike) -> NDArray[np.bool_]:
    """Which of (n, m) points are not dominated; of equal points all are kept."""
    matrix = np.asarray(points, dtype=np.float64)
    if len(matrix) == 0:
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(moocore.is_nondominated(-matrix, keep_weakly=True), dtype=np.bool_)


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume dominated by (n, m) points above the reference (m,)."""
    matrix = np.asarray(points, dtype=np.float64)
    corner = np.asarray(reference, dtype=np.float64)
    if len(matrix) == 0:
        return 0.0
    above = matrix[np.all(matrix > corner, axis=1)]
    if len(above) == 0:
        return 0.0
    return float(moocore.hypervolume(-np.unique(above, axis=0), ref=-corner))


def reference_point(baselines: ArrayLike) -> NDArray[np.float64]:
    """Where hypervolume is measured from: a tenth of the baselines' span below their worst.

    Args:
        baselines: (n, m) scores of base, parents and average.
    """
    matrix = np.asarray(baselines, dtype=np.float64)
    worst, best = matrix.min(axis=0), matrix.max(axis=0)
    span = np.where(best > worst, best - worst, np.maximum(np.abs(worst), 1e-9))
    return np.asarray(worst - 0.1 * span, dtype=np.float64)
