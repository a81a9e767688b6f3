"""Model breadcrumbs, with and without a vote: neither outliers nor noise."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.magnitudes import band, band_scale
from workers.merging.merge_method import MergeFunction, Sources
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

_GAMMA = Parameter(
    "gamma",
    "fraction of entries, the largest, that is dropped",
    per_parent=True,
    default=0.01,
    low=0.0,
    high=0.1,
    minimum=0.0,
    maximum=1.0,
)


def declaration(name: str, summary: str) -> MethodDeclaration:
    """What both methods ask for."""
    return MethodDeclaration(
        name=name,
        summary=summary,
        source="Davari & Belilovsky 2024, arXiv:2312.06795",
        parameters=(
            WEIGHT,
            DENSITY,
            _GAMMA,
            normalize(default=False),
            rescale(default="none"),
            LAMBDA,
        ),
        uses_base=True,
        cost="vote",
        parent_values={"density": 1.0, "gamma": 0.0, "lambda": 1.0},
        mergekit=name,
    )


def breadcrumbs(*, vote: bool) -> MergeFunction:
    """Keep a band of each task vector, weight the bands, add them to the base.

    The band is per tensor, as in mergekit, whose empty band for a ``gamma`` that drops nothing is
    not reproduced.

    Args:
        vote: elect a sign for every entry first, and add only what agrees.
    """

    def merge(
        out: Tensor,
        sources: Sources,
        *,
        weight: Sequence[float],
        density: Sequence[float],
        gamma: Sequence[float],
        normalize: bool,
        rescale: Rescale,
        lambda_: float,
    ) -> None:
        kept = band(sources, density, gamma)
        add_task_vectors(
            out,
            sources,
            kept,
            weight=weight,
            scale=rescaled(rescale, density, lambda i: band_scale(sources, kept, i)),
            vote=vote,
            normalize=normalize,
            lambda_=lambda_,
        )

    return merge
