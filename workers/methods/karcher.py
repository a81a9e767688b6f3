"""Karcher mean: the point of the sphere with the least squared arcs to all parents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from search.method import TASK_VECTORS, MethodDeclaration, Parameter
from workers.merging.combination import combine
from workers.merging.gram import cosines
from workers.merging.merge_method import NotMergeable, Sources, merge_method
from workers.merging.task_vectors import NO_WEIGHT

# A parent closer than this to the point opposite of the mean, as 1 + cosine, has arcs to it in all
# directions: which one it pulls in would be decided by rounding errors.
_OPPOSITE = 1e-7

_Array = NDArray[np.float64]

_DECLARATION = MethodDeclaration(
    name="karcher",
    summary="Mean of the parents or their task vectors on the sphere, found by iteration.",
    source="Karcher 1977, doi:10.1002/cpa.3160300502",
    parameters=(
        Parameter(
            "weight",
            "share of the parent; mergekit's are all equal",
            per_parent=True,
            low=0.05,
            high=1.0,
            minimum=0.0,
        ),
        Parameter("max_iter", "steps after which the iteration ends", "integer", default=10),
        Parameter(
            "tol",
            "length of a step, in radians, below which the iteration ends; shorter parents than "
            "this, as a fraction of the longest, have no direction",
            default=1e-5,
            low=1e-7,
            high=1e-3,
            minimum=0.0,
            maximum=1.0,
            log=True,
        ),
        TASK_VECTORS,
    ),
    uses_base=True,
    cost="closed form",
    mergekit="karcher",
    presets={"mergekit": {"weight": 1.0, "task_vectors": False}},
)


@merge_method(_DECLARATION)
def karcher(
    out: Tensor,
    sources: Sources,
    *,
    weight: Sequence[float],
    max_iter: int,
    tol: float,
    task_vectors: bool,
) -> None:
    """The mean direction on the sphere, at the mean length; weights are divided by their sum.

    The mean stays in the span of the parents, so that the iteration is one of coefficients. Differs
    from mergekit in the weights, and in that ``tol`` bounds lengths relative to the longest parent.
    """
    total = math.fsum(weight)
    if total < NO_WEIGHT:
        raise NotMergeable(
            f"the weights of the parents sum to {total:g} at '{sources.name}', and karcher divides "
            "by that; raise a weight"
        )
    norms, cosine = (
        x.numpy()[..., 0] for x in cosines(sources, "tensor", around_base=task_vectors)
    )
    share = np.asarray(weight) / total
    directed = (norms > tol * norms.max()) & (share > 0.0)
    coefficients = np.zeros(len(norms))
    if directed.any():
        pull = share[directed] / share[directed].sum()
        units = _mean(cosine[np.ix_(directed, directed)], pull, max_iter, tol)
        coefficients[directed] = (share @ norms) * units / norms[directed]
    combine(out, sources, coefficients.tolist(), around_base=task_vectors)


def _mean(cosine: _Array, share: _Array, steps: int, tol: float) -> _Array:
    """Coefficients on unit vectors of their Karcher mean, of length 1.

    Args:
        cosine: (k, k) inner products of the unit vectors.
        share: (k,), positive, of sum 1.
        steps: at most.
        tol: length of a step that is the last.
    """

    def length(c: _Array) -> float:
        return math.sqrt(max(0.0, float(c @ cosine @ c)))

    mean = share
    if length(mean) <= tol:  # they cancel: any of them is as good a start
        mean = np.eye(len(share))[0]
    mean = mean / length(mean)
    for _ in range(steps):
        towards = np.clip(cosine @ mean, -1.0, 1.0)
        angle = np.arccos(towards)
        pulling = (angle > tol) & (1.0 + towards > _OPPOSITE)
        pull = np.where(pulling, share * angle / np.where(pulling, np.sin(angle), 1.0), 0.0)
        step = pull - (pull @ towards) * mean
        size = length(step)
        if size <= tol:
            break
        mean = math.cos(size) * mean + math.sin(size) / size * step
        mean = mean / length(mean)
    return mean
