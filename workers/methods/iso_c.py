"""Iso-C: the sum of task vectors with all its singular values made equal."""

from __future__ import annotations

from torch import Tensor

from search.method import MethodDeclaration
from workers.merging.isotropic import SCALING, add_isotropic
from workers.merging.matrices import svd
from workers.merging.merge_method import Sources, merge_method
from workers.merging.whole_model import finite_deltas

_DECLARATION = MethodDeclaration(
    name="iso_c",
    summary="Sum the changes, then give every singular direction of the sum the same strength.",
    source="Marczak et al. 2025, arXiv:2502.04959",
    parameters=(SCALING,),
    uses_base=True,
    cost="prepared",
    parent_values=None,
)


@merge_method(_DECLARATION)
def iso_c(out: Tensor, sources: Sources, *, scaling: float) -> None:
    """Flatten the spectrum of the sum; what is not a projection matrix takes the mean task vector.

    A sum of lower rank than its shape allows (of LoRA adapters) keeps that rank, and the mean of
    the singular values is taken over it: the paper's program lifts arbitrary directions to the
    mean there.
    """
    add_isotropic(out, sources, "iso_c", _direction, scaling)


def _direction(sources: Sources) -> Tensor:
    total = svd(finite_deltas(sources).sum(0))
    return total.u @ total.v.T * (total.s.mean() if total.rank else 0.0)
