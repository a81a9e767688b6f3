"""Values at given places of a sorted tensor, without sorting it where that is not needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def order_statistics(values: Tensor, places: Sequence[int]) -> list[float]:
    """The values at ``places`` of the ascending order; NaN counts as the largest.

    Args:
        values: any shape, not empty; float32 or float64 on the CPU.
        places: from 0, below the number of values.
    """
    flat = values.reshape(-1)
    if flat.device.type == "cpu":
        ordered = np.partition(flat.numpy(), places)
        return [float(ordered[place]) for place in places]
    found: list[float] = flat.sort().values[list(places)].tolist()
    return found
