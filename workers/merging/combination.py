"""Merged models that are combinations of the parents, around the base or not."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from workers.kernels.row_sum import Axis, weighted_vectors
from workers.kernels.weighted_sum import weighted_sum
from workers.merging.directions import add_deltas
from workers.merging.merge_method import Sources


def combine(
    out: Tensor, sources: Sources, coefficients: Sequence[float], *, around_base: bool
) -> None:
    """Write the sum of coefficient times parent, or base plus coefficient times task vector.

    Args:
        out: receives the merged tensor.
        sources: base and parents.
        coefficients: one for each parent.
        around_base: of task vectors, added to the base.
    """
    if around_base:
        add_deltas(out, sources, coefficients)
    else:
        weighted_sum(out, sources.parents, coefficients)


def combine_vectors(
    out: Tensor, sources: Sources, coefficients: Tensor, axis: Axis, *, around_base: bool
) -> None:
    """As ``combine``, with coefficients for every vector of the tensor.

    Args:
        out: receives the merged tensor.
        sources: base and parents.
        coefficients: (k, v), one for each parent and vector.
        axis: along which the vectors lie.
        around_base: of task vectors, added to the base.
    """
    if around_base:
        tensors = [sources.base, *sources.parents]
        factors = [1.0 - coefficients.sum(0), *coefficients]
        weighted_vectors(out, tensors, factors, axis)
    else:
        weighted_vectors(out, sources.parents, list(coefficients), axis)
