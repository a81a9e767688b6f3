"""Inner products of the models on a grid: all that SLERP needs to know of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Gram matrices of base and parents, measured once by a worker.

    Args:
        boundaries: (cells + 1,) int64, offsets into the flattened model.
        gram: (cells, k + 1, k + 1) float64; entry [c, i, j] is the inner product of models i and j
            within cell c; model 0 is the base, then the parents in the order of the spec.
    """

    boundaries: NDArray[np.int64]
    gram: NDArray[np.float64]
