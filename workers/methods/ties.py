"""TIES: trim task vectors, elect signs, merge what agrees."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from search.method import MethodDeclaration
from workers.magnitudes import band, rescaled
from workers.merge_method import Sources, merge_method
from workers.task_vectors import (
    DENSITY,
    LAMBDA,
    WEIGHT,
    Rescale,
    add_task_vectors,
    normalize,
    rescale,
)

_DECLARATION = MethodDeclaration(
    name="ties",
    summary="Keep the largest changes of each parent, elect a sign per entry, average what agrees.",
    source="Yadav et al. 2023, arXiv:2306.01708",
    parameters=(WEIGHT, DENSITY, normalize(default=True), rescale(default="none"), LAMBDA),
    uses_base=True,
    cost="vote",
    parent_values={"density": 1.0, "normalize": True, "lambda": 1.0},
    mergekit="ties",
)


@merge_method(_DECLARATION)
def ties(
    out: Tensor,
    sources: Sources,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    normalize: bool,
    rescale: Rescale,
    lambda_: float,
) -> None:
    """Algorithm 1 of the paper, as mergekit does it.

    It differs from the paper in the trim, which is per tensor and not over the whole model, and in
    the weights, which multiply the task vectors before the vote.
    """
    trimmed = band(sources, density)
    add_task_vectors(
        out,
        sources,
        trimmed,
        weight=weight,
        scale=rescaled(sources, trimmed, density, rescale),
        vote=True,
        normalize=normalize,
        lambda_=lambda_,
    )
