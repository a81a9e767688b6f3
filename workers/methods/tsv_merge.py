"""TSV-Merge: give the leading singular directions of each task vector a room of their own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.directions import add_whole_directions, whole
from workers.merging.matrices import SVD, Solver, Svd, leading, orthogonal
from workers.merging.merge_method import Sources, merge_method
from workers.merging.rest import add_rest
from workers.merging.whole_model import finite_deltas

_DECLARATION = MethodDeclaration(
    name="tsv_merge",
    summary="Keep the main singular directions of each parent's change, made orthogonal.",
    source="Gargiulo et al. 2025, arXiv:2412.00081",
    parameters=(
        Parameter(
            "alpha",
            "factor of all that is added; a searched one costs nothing",
            default=1.0,
            low=0.3,
            high=1.8,
        ),
        Parameter(
            "weight",
            "factor of the parent's singular values; a searched one costs nothing",
            per_parent=True,
            default=1.0,
            low=0.0,
            high=1.5,
        ),
        SVD,
    ),
    uses_base=True,
    cost="prepared",
    directions=(0, 1),
    parent_values=None,
)


@merge_method(_DECLARATION)
def tsv_merge(
    out: Tensor, sources: Sources, *, alpha: float, weight: Sequence[float], svd: Solver
) -> None:
    """Base plus alpha times the sum of weight times each orthogonalized task vector.

    Embeddings, vectors and the like take the mean task vector. So does a matrix with fewer rows or
    columns than there are parents: it has no room for a direction of each.
    """
    coefficients = [alpha * w for w in weight]
    if sources.kind != "matrix" or min(whole(sources).base.shape) < len(coefficients):
        add_rest(out, sources, coefficients)
    else:
        add_whole_directions(
            out,
            sources,
            ("tsv_merge", svd),
            lambda whole: _directions(whole, svd),
            coefficients,
        )


def _directions(sources: Sources, solver: Solver) -> list[Tensor]:
    """One for each parent; scaling a task vector scales its direction and changes no other."""
    deltas = finite_deltas(sources)
    room = min(deltas.shape[1:]) // len(deltas)
    parts = [leading(delta, room, solver) for delta in deltas]
    u = orthogonal(torch.cat([part.u for part in parts], dim=1))
    v = orthogonal(torch.cat([part.v for part in parts], dim=1))
    ends = list(itertools.accumulate((part.rank for part in parts), initial=0))
    rooms = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
    return [
        Svd(u[:, room], part.s, v[:, room]).matrix()
        for room, part in zip(rooms, parts, strict=True)
    ]
