"""Methods that spend their work on finding directions, which later candidates only add up."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from torch import Tensor

from workers.merge_method import Sources
from workers.weighted_sum import weighted_sum


def add_directions(
    out: Tensor,
    sources: Sources,
    what: Hashable,
    find: Callable[[], Sequence[Tensor]],
    coefficients: Sequence[float],
) -> None:
    """Write the base plus the sum of ``coefficients[i] * directions[i]`` into ``out``.

    Args:
        out: receives the merged tensor.
        sources: base and parents.
        what: name of the method and every parameter that the directions depend on.
        find: the directions, each of the shape of the tensor, in ``sources.dtype``. They are kept
            as they are: rounding them would round every candidate twice.
        coefficients: one for each direction; searched without finding the directions again.
    """
    directions = sources.remember(("directions", what), lambda: tuple(find()))
    weighted_sum(out, (sources.base, *directions), (1.0, *coefficients))
