"""NuSLERP: walk the arc between two parents or their task vectors, tensor by tensor or by rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from search.method import TASK_VECTORS, MethodDeclaration, Parameter
from workers.merging.combination import combine, combine_vectors
from workers.merging.gram import Vectors, cosines
from workers.merging.merge_method import Sources, merge_method

# Weights that sum to less than this meet in the middle, as in mergekit.
_NO_WEIGHT = 1e-6
# Where the sine of the angle is smaller, the arc is taken for a line. Near 0 the two are the same;
# near 180 degrees the arc would be multiplied by the inverse of this.
_STRAIGHT = 1e-4

_DECLARATION = MethodDeclaration(
    name="nuslerp",
    summary="Spherical interpolation between two parents or their task vectors, by their weights.",
    source="mergekit, Goddard et al. 2024, arXiv:2403.13257; arcs of Shoemake 1985",
    parameters=(
        Parameter(
            "weight", "place on the arc, as the parent's share of both weights", per_parent=True
        ),
        Parameter(
            "nuslerp_flatten", "one angle for a tensor, not one for each row", "flag", default=True
        ),
        Parameter(
            "nuslerp_row_wise",
            "without nuslerp_flatten: angles between vectors along the first axis (columns of a "
            "matrix), not along the last (rows); mergekit's name means the reverse",
            "flag",
            default=False,
        ),
        TASK_VECTORS,
    ),
    uses_base=True,
    cost="closed form",
    minimum_parents=2,
    maximum_parents=2,
    mergekit="nuslerp",
)


@merge_method(_DECLARATION)
def nuslerp(
    out: Tensor,
    sources: Sources,
    *,
    weight: Sequence[float],
    nuslerp_flatten: bool,
    nuslerp_row_wise: bool,
    task_vectors: bool,
) -> None:
    """Both parents, weighted by sines of their angle, at the second one's share of the weights.

    Differs from mergekit where vectors are nearly opposite: the line, not an arc of huge radius.
    """
    axis: Vectors = "first" if nuslerp_row_wise else "last"
    vectors: Vectors = "tensor" if nuslerp_flatten else axis
    angle = sources.remember(
        ("nuslerp angle", vectors, task_vectors),
        lambda: torch.acos(cosines(sources, vectors, around_base=task_vectors)[1][0, 1]),
    )
    total = sum(weight)
    shares = _shares(angle, 0.5 if abs(total) < _NO_WEIGHT else weight[1] / total)
    if vectors == "tensor":
        combine(out, sources, shares[:, 0].tolist(), around_base=task_vectors)
    else:
        combine_vectors(out, sources, shares, vectors, around_base=task_vectors)


def _shares(angle: Tensor, t: float) -> Tensor:
    """(2, v) coefficients of both parents at place ``t`` of arcs of (v,) angles."""
    sine = torch.sin(angle)
    straight = sine < _STRAIGHT
    line = torch.tensor([[1.0 - t], [t]], dtype=angle.dtype, device=angle.device)
    arc = torch.stack([torch.sin((1.0 - t) * angle), torch.sin(t * angle)])
    return torch.where(straight, line, arc / sine.masked_fill(straight, 1.0))
