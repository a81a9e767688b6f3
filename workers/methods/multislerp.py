"""Multi-SLERP: the mean direction of any number of parents, at their mean length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from search.method import TASK_VECTORS, MethodDeclaration, Parameter
from workers.merging.combination import combine
from workers.merging.gram import cosines
from workers.merging.merge_method import NotMergeable, Sources, merge_method
from workers.merging.task_vectors import NO_WEIGHT

# Of the sum of the weights' magnitudes. A mean direction that is shorter is made of rounding errors
# of float32.
_CANCELLED = 1e-6

_DECLARATION = MethodDeclaration(
    name="multislerp",
    summary="Mean direction of the parents or their task vectors, at their mean length.",
    source="mergekit, Goddard et al. 2024, arXiv:2403.13257",
    parameters=(
        Parameter("weight", "share of the parent", per_parent=True, low=0.05, high=1.0),
        Parameter("normalize_weights", "divide by the sum of the weights", "flag", default=True),
        TASK_VECTORS,
    ),
    uses_base=True,
    cost="closed form",
    mergekit="multislerp",
)


@merge_method(_DECLARATION)
def multislerp(
    out: Tensor,
    sources: Sources,
    *,
    weight: Sequence[float],
    normalize_weights: bool,
    task_vectors: bool,
) -> None:
    """Sum of weight times length, along the sum of weight times direction.

    mergekit walks from that mean direction along the mean of the tangents there, which is 0: the
    mean direction is parallel to what the tangents are taken from. Where directions cancel there
    is none, and the result is the weighted sum; mergekit refuses three or more parents there.
    """
    total = math.fsum(weight)
    if normalize_weights and abs(total) < NO_WEIGHT:
        raise NotMergeable(
            f"the weights of the parents sum to {total:g} at '{sources.name}', and "
            "normalize_weights divides by that; raise a weight or turn normalize_weights off"
        )
    norms, cosine = (
        x.numpy()[..., 0] for x in cosines(sources, "tensor", around_base=task_vectors)
    )
    w = np.where(norms > 0.0, weight, 0.0) / (total if normalize_weights else 1.0)
    mean = math.sqrt(max(0.0, float(w @ cosine @ w)))
    if mean <= _CANCELLED * np.abs(w).sum():
        coefficients = w
    else:
        coefficients = (w @ norms) / mean * w / np.where(norms > 0.0, norms, 1.0)
    combine(out, sources, coefficients.tolist(), around_base=task_vectors)
