"""SLERP: walk the arc from one parent to another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.kernels.weighted_sum import weighted_sum
from workers.merging.merge_method import Sources, merge_method

# Closer to (anti)parallel than this, the arc is taken for a line: there its sine is too small to
# divide by.
_PARALLEL = 0.9995
_ZERO_NORM = 1e-8

_DECLARATION = MethodDeclaration(
    name="slerp",
    summary="Spherical interpolation between two parents, tensor by tensor.",
    source="Shoemake 1985, doi:10.1145/325165.325242",
    parameters=(
        Parameter(
            "t",
            "place between the first parent (0) and the second (1)",
            default=0.5,
            minimum=0.0,
            maximum=1.0,
        ),
    ),
    uses_base=False,
    cost="closed form",
    minimum_parents=2,
    maximum_parents=2,
    parent_values=None,
    mergekit="slerp",
)


@merge_method(_DECLARATION)
def slerp(out: Tensor, sources: Sources, *, t: float) -> None:
    """Both parents, weighted by sines of their angle; by (1 - t, t) where they are parallel."""
    first, second = sources.parents
    cosine = sources.remember("cosine", lambda: _cosine(first, second))
    weighted_sum(out, (first, second), _coefficients(cosine, t))


def _coefficients(cosine: float, t: float) -> tuple[float, float]:
    if abs(cosine) > _PARALLEL:
        return 1.0 - t, t
    angle = math.acos(cosine)
    return (
        math.sin((1.0 - t) * angle) / math.sin(angle),
        math.sin(t * angle) / math.sin(angle),
    )


def _cosine(first: Tensor, second: Tensor) -> float:
    """Of the flattened tensors; one of norm 0 stays as it is, which gives 0."""
    a, b = (x.reshape(-1).to(_precise(x)) for x in (first, second))
    norms = [float(torch.linalg.vector_norm(x, dtype=torch.float64)) for x in (a, b)]
    lengths = [norm if norm > _ZERO_NORM else 1.0 for norm in norms]
    return float(torch.dot(a, b)) / (lengths[0] * lengths[1])


def _precise(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
