"""Fronts and hypervolume. All points are maximized."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

# With more objectives a front of some hundred points takes from a second to for ever.
_MOST_OBJECTIVES_TO_BE_EXACT = 5
_DIRECTIONS = 2**14


def front(points: ArrayLike) -> NDArray[np.bool_]:
    """Which of (n, m) points are not dominated; of equal points all are kept."""
    matrix = np.asarray(points, dtype=np.float64)
    if len(matrix) == 0:
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(moocore.is_nondominated(-matrix, keep_weakly=True), dtype=np.bool_)


def first_front(points: ArrayLike, violation: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (n, m) points are nondominated among those that violate constraints the least.

    Mostly those that hold them all; see `search.constraints`.

    Args:
        points: scores.
        violation: (n,) not negative.
    """
    matrix = np.asarray(points, dtype=np.float64)
    least = np.flatnonzero(violation == violation.min(initial=np.inf))
    mask = np.zeros(len(matrix), dtype=np.bool_)
    mask[least[front(matrix[least])]] = True
    return mask


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume dominated by (n, m) points above the reference (m,).

    Exact for up to five objectives. For more it is the mean over fixed directions (Rphi-FWE+ of
    moocore), to about a percent: the same points always give the same volume, and more points never
    a smaller one.
    """
    matrix = np.asarray(points, dtype=np.float64)
    corner = np.asarray(reference, dtype=np.float64)
    if len(matrix) == 0:
        return 0.0
    above = matrix[np.all(matrix > corner, axis=1)]
    if len(above) == 0:
        return 0.0
    worse = -np.unique(above, axis=0)
    if len(corner) <= _MOST_OBJECTIVES_TO_BE_EXACT:
        return float(moocore.hypervolume(worse, ref=-corner))
    return float(moocore.hv_approx(worse, ref=-corner, nsamples=_DIRECTIONS))


def span(baselines: ArrayLike) -> NDArray[np.float64]:
    """(m,) from the worst to the best of the baselines: the unit that objectives are compared in.

    At least a quarter of their magnitude: a metric in which baselines hardly differ would otherwise
    decide by its noise. Where there are no baselines, 1.

    Args:
        baselines: (n, m) scores of base, parents and average.
    """
    matrix = np.asarray(baselines, dtype=np.float64)
    if len(matrix) == 0:
        return np.ones(matrix.shape[1])
    least = np.maximum(0.25 * np.abs(matrix).max(axis=0), 1e-9)
    return np.asarray(np.maximum(np.ptp(matrix, axis=0), least))


def preference(
    points: ArrayLike, weights: Sequence[float], unit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(...) one number for each of (..., m) points: the mean of the objectives by their weights.

    Args:
        points: scores.
        weights: (m,), not negative, at least one above 0.
        unit: (m,) what each objective is measured in (see `span`), so that weights compare tasks.
    """
    return np.asarray(np.average(np.asarray(points) / unit, axis=-1, weights=weights))


def reference_point(baselines: ArrayLike) -> NDArray[np.float64]:
    """Where hypervolume is measured from: a tenth of the baselines' span below their worst.

    Args:
        baselines: (n, m) scores of base, parents and average.
    """
    matrix = np.asarray(baselines, dtype=np.float64)
    return np.asarray(matrix.min(axis=0) - 0.1 * span(matrix), dtype=np.float64)
