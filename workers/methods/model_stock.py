"""Model Stock: pull the average of fine-tunes of one task towards the base, by their angles."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.combination import combine, combine_vectors
from workers.merging.gram import Vectors, cosines
from workers.merging.merge_method import Sources, merge_method
from workers.merging.task_vectors import LAMBDA

AngleMean = Literal["cosines", "angles"]

# Task vectors that point away from each other in every direction leave the ratio nothing to divide
# by.
_CANCELLED = 1e-6

_DECLARATION = MethodDeclaration(
    name="model_stock",
    summary="Average of fine-tunes of one task, pulled to the base the more they disagree.",
    source="Jang et al. 2024, arXiv:2403.19522",
    parameters=(
        Parameter(
            "filter_wise",
            "one angle for each row (vector along the last axis), not one for a tensor",
            "flag",
            default=False,
        ),
        Parameter(
            "angle_mean",
            "what is averaged over pairs of parents, where there are three or more",
            "choice",
            default="cosines",
            choices=("cosines", "angles"),
        ),
        Parameter(
            "clamp",
            "stay between the base and the average where task vectors point away from each other; "
            "without it, the formula goes beyond the base there",
            "flag",
            default=False,
        ),
        LAMBDA,
    ),
    uses_base=True,
    cost="closed form",
    minimum_parents=2,
    parent_values=None,
    mergekit="model_stock",
    presets={
        "mergekit": {"angle_mean": "cosines", "clamp": False, "lambda": 1.0},
        "paper": {"angle_mean": "angles", "clamp": False},
    },
)


@merge_method(_DECLARATION)
def model_stock(
    out: Tensor,
    sources: Sources,
    *,
    filter_wise: bool,
    angle_mean: AngleMean,
    clamp: bool,
    lambda_: float,
) -> None:
    """Base plus lambda times ratio times the mean task vector.

    The paper derives the ratio for two models and has one angle for all of three or more; what that
    is for angles that differ, ``angle_mean`` says. Where task vectors cancel, the base.
    """
    vectors: Vectors = "last" if filter_wise else "tensor"
    ratio = sources.remember(
        ("model_stock ratio", vectors, angle_mean, clamp),
        lambda: _ratio(cosines(sources, vectors, around_base=True)[1], angle_mean, clamp),
    )
    count = len(sources.parents)
    share = ratio * (lambda_ / count)
    if vectors == "tensor":
        combine(out, sources, [float(share)] * count, around_base=True)
    else:
        combine_vectors(out, sources, share.expand(count, -1), vectors, around_base=True)


def _ratio(cosine: Tensor, angle_mean: AngleMean, clamp: bool) -> Tensor:
    """(v,) how far from the base to the average, of (k, k, v) cosines between task vectors."""
    count = len(cosine)
    pairs = torch.stack([cosine[i, j] for i, j in combinations(range(count), 2)])
    c = pairs.mean(0) if angle_mean == "cosines" else torch.cos(torch.acos(pairs).mean(0))
    if clamp:
        c = c.clamp_min(0.0)
    divisor = 1.0 + (count - 1) * c
    cancelled = divisor < _CANCELLED
    return (count * c / divisor.masked_fill(cancelled, 1.0)).masked_fill_(cancelled, 0.0)
