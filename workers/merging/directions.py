"""Methods that spend their work on finding directions, which later candidates only add up."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from torch import Tensor

from workers.kernels.weighted_sum import weighted_sum
from workers.merging.merge_method import Sources


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


def add_deltas(out: Tensor, sources: Sources, coefficients: Sequence[float]) -> None:
    """Write the base plus the sum of ``coefficients[i] * (parent i - base)`` into ``out``.

    Summed as coefficients of base and parents, so that no difference is ever stored, and
    coefficients that leave nothing of the base give exactly the parents' sum.
    """
    mine = 1.0 - sum(coefficients)
    weighted_sum(out, (sources.base, *sources.parents), (mine, *coefficients))


# From a whole tensor to its directions.
Find = Callable[[Sources], Sequence[Tensor]]


def whole(sources: Sources) -> Sources:
    """The whole tensor, where only a part of one is being merged."""
    if sources.kind == "vector" or sources.base.ndim > 1:
        return sources
    return next(tensor for tensor in sources.model() if tensor.name == sources.name)


def whole_directions(sources: Sources, what: Hashable, find: Find) -> tuple[Tensor, ...]:
    """The directions of the whole tensor, found once and kept."""
    tensor = whole(sources)
    return tensor.remember(("directions", what), lambda: tuple(find(tensor)))


def add_whole_directions(
    out: Tensor, sources: Sources, what: Hashable, find: Find, coefficients: Sequence[float]
) -> None:
    """As `add_directions`, for directions that follow from the whole tensor.

    Args:
        out: receives the merged tensor, or a part of it.
        sources: base and parents, of a tensor or a part of it.
        what: name of the method and every parameter that the directions depend on.
        find: the directions of the whole tensor that it is given.
        coefficients: one for each direction.
    """
    part = slice(sources.start, sources.start + out.numel())
    terms = [d.reshape(-1)[part] for d in whole_directions(sources, what, find)]
    weighted_sum(out.view(-1), (sources.base.reshape(-1), *terms), (1.0, *coefficients))
