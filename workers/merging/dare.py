"""DARE, with and without the vote of TIES: which random entries of a task vector survive."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from search.method import MethodDeclaration
from workers.merging.merge_method import MergeFunction, Sources
from workers.merging.random_masks import chosen
from workers.merging.task_vectors import (
    DENSITY,
    LAMBDA,
    WEIGHT,
    Rescale,
    add_task_vectors,
    l1_scale,
    normalize,
    rescale,
    rescaled,
)


def declaration(name: str, summary: str) -> MethodDeclaration:
    """What both methods ask for."""
    return MethodDeclaration(
        name=name,
        summary=summary,
        source="Yu et al. 2024, arXiv:2311.03099",
        parameters=(
            WEIGHT,
            DENSITY,
            normalize(default=False),
            rescale(default="1/density"),
            LAMBDA,
        ),
        uses_base=True,
        cost="vote",
        parent_values={"density": 1.0, "lambda": 1.0},
        mergekit=name,
        presets={"mergekit": {"rescale": "l1"}, "paper": {"rescale": "1/density"}},
    )


def dare(*, vote: bool) -> MergeFunction:
    """Drop entries of the task vectors at random, rescale the rest, add them to the base.

    Args:
        vote: elect a sign for every entry first, and add only what agrees.
    """

    def merge(
        out: Tensor,
        sources: Sources,
        *,
        weight: Sequence[float],
        density: Sequence[float],
        normalize: bool,
        rescale: Rescale,
        lambda_: float,
    ) -> None:
        mask = chosen(sources, density)
        add_task_vectors(
            out,
            sources,
            mask,
            weight=weight,
            scale=rescaled(
                rescale,
                density,
                lambda i: l1_scale(sources, mask, i) if density[i] < 1.0 else 1.0,
            ),
            vote=vote,
            normalize=normalize,
            lambda_=lambda_,
        )

    return merge
