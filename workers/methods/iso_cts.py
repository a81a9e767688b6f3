"""Iso-CTS: as Iso-C, with the weakest common directions given to single parents."""

from __future__ import annotations

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.isotropic import SCALING, add_isotropic
from workers.merging.matrices import orthogonal, svd
from workers.merging.merge_method import Sources, merge_method
from workers.merging.whole_model import finite_deltas

_DECLARATION = MethodDeclaration(
    name="iso_cts",
    summary="Equally strong singular directions: most from the sum of changes, some per parent.",
    source="Marczak et al. 2025, arXiv:2502.04959",
    parameters=(
        SCALING,
        Parameter(
            "common_space_fraction",
            "fraction of the directions that belong to the sum of all task vectors, in [0, 1]",
            default=0.8,
            low=0.5,
            high=0.95,
            minimum=0.0,
            maximum=1.0,
        ),
    ),
    uses_base=True,
    cost="prepared",
    parent_values=None,
)


@merge_method(_DECLARATION)
def iso_cts(out: Tensor, sources: Sources, *, scaling: float, common_space_fraction: float) -> None:
    """Common and specific directions; what is no projection matrix takes the mean task vector.

    As in Iso-C, directions without strength are left out instead of lifted to the mean.
    """
    what = ("iso_cts", common_space_fraction)
    add_isotropic(
        out, sources, what, lambda whole: _direction(whole, common_space_fraction), scaling
    )


def _direction(sources: Sources, fraction: float) -> Tensor:
    deltas = finite_deltas(sources)
    shared, own = _rooms(min(deltas.shape[1:]), len(deltas), fraction)
    common = svd(deltas.sum(0)).first(shared)
    # Judged by the whole task vector, so that rounding noise of the projection is no direction.
    norms = torch.linalg.matrix_norm(deltas).tolist()
    specific = [
        svd(delta - common.u @ (common.u.T @ delta), scale=norm).first(own)
        for delta, norm in zip(deltas, norms, strict=True)
    ]
    parts = [*specific, common]
    u = orthogonal(torch.cat([part.u for part in parts], dim=1))
    v = orthogonal(torch.cat([part.v for part in parts], dim=1))
    strengths = torch.cat([part.s for part in parts])
    return u @ v.T * (strengths.mean() if strengths.numel() else 0.0)


def _rooms(size: int, count: int, fraction: float) -> tuple[int, int]:
    """How many directions the sum gets, and how many each of ``count`` parents.

    What the sum leaves is rounded to a multiple of the parents (of two equally near ones to the
    even multiple, as the paper's program does), but never to more than there is.
    """
    left = size - int(size * fraction)
    own = min(round(left / count), size // count)
    return size - own * count, own
