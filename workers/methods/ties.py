"""TIES: trim task vectors, elect signs, merge what agrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.magnitudes import band, band_scale
from workers.merging.merge_method import Sources, merge_method
from workers.merging.task_vectors import (
    DENSITY,
    LAMBDA,
    WEIGHT,
    Rescale,
    add_task_vectors,
    normalize,
    rescale,
    rescaled,
)
from workers.merging.whole_ties import MergeFunc, add_whole_ties

_DECLARATION = MethodDeclaration(
    name="ties",
    summary="Keep the largest changes of each parent, elect a sign per entry, average what agrees.",
    source="Yadav et al. 2023, arXiv:2306.01708",
    parameters=(
        WEIGHT,
        DENSITY,
        normalize(default=True),
        rescale(default="none"),
        LAMBDA,
        Parameter(
            "scope",
            "what is trimmed together: each tensor, with a vote by weighted entries (mergekit), or "
            "the whole model, with a vote that weights do not change (the paper's program)",
            "choice",
            default="tensor",
            choices=("tensor", "model"),
        ),
        Parameter(
            "merge_func",
            "of the whole model: what becomes of the entries that agree",
            "choice",
            default="mean",
            choices=("mean", "sum", "max"),
        ),
    ),
    uses_base=True,
    cost="vote",
    parent_values={"density": 1.0, "normalize": True, "lambda": 1.0},
    mergekit="ties",
    presets={"mergekit": {"scope": "tensor", "merge_func": "mean"}, "paper": {"scope": "model"}},
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
    scope: Literal["tensor", "model"],
    merge_func: MergeFunc,
) -> None:
    """Algorithm 1 of the paper, as mergekit has it or as the paper's program.

    mergekit trims each tensor by itself and multiplies by the weights before the vote, which
    ``normalize`` and ``rescale`` belong to.
    """
    if scope == "model":
        add_whole_ties(
            out, sources, weight=weight, density=density, merge_func=merge_func, scaling=lambda_
        )
        return
    trimmed = band(sources, density)
    add_task_vectors(
        out,
        sources,
        trimmed,
        weight=weight,
        scale=rescaled(rescale, density, lambda i: band_scale(sources, trimmed, i)),
        vote=True,
        normalize=normalize,
        lambda_=lambda_,
    )
