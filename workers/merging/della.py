"""DELLA, with and without a vote: like DARE, but larger entries survive more often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.merge_method import MergeFunction, Sources
from workers.merging.random_masks import ranked
from workers.merging.task_vectors import (
    DENSITY,
    LAMBDA,
    WEIGHT,
    add_task_vectors,
    l1_scale,
    normalize,
)

_EPSILON = Parameter(
    "epsilon",
    "half the difference between the probabilities of a row's largest and smallest entry to be "
    "kept; less where density leaves less room",
    per_parent=True,
    default=0.15,
    low=0.02,
    high=0.3,
    minimum=0.0,
    maximum=0.5,
)
_RESCALE = Parameter(
    "rescale",
    "how to make up for dropped entries: 1/probability (of each that is kept), l1 (keep the L1 "
    "norm of the tensor; mergekit's true), or none (mergekit's false)",
    "choice",
    default="1/probability",
    choices=("none", "l1", "1/probability"),
)


def declaration(name: str, summary: str, *, vote: bool) -> MethodDeclaration:
    """What both methods ask for."""
    return MethodDeclaration(
        name=name,
        summary=summary,
        source="Deep et al. 2024, arXiv:2406.11617",
        parameters=(WEIGHT, DENSITY, _EPSILON, normalize(default=vote), _RESCALE, LAMBDA),
        uses_base=True,
        cost="vote",
        parent_values=None,
        mergekit=name,
        presets={"mergekit": {"rescale": "l1"}, "paper": {"rescale": "1/probability"}},
    )


def della(*, vote: bool) -> MergeFunction:
    """Drop entries of the task vectors by rank and chance, rescale, add them to the base.

    Args:
        vote: elect a sign for every entry first, and add only what agrees.
    """

    def merge(
        out: Tensor,
        sources: Sources,
        *,
        weight: Sequence[float],
        density: Sequence[float],
        epsilon: Sequence[float],
        normalize: bool,
        rescale: Literal["none", "l1", "1/probability"],
        lambda_: float,
    ) -> None:
        mask = ranked(sources, density, epsilon, unbiased=rescale == "1/probability")
        parents = range(len(weight))
        add_task_vectors(
            out,
            sources,
            mask,
            weight=weight,
            scale=[l1_scale(sources, mask, i) if rescale == "l1" else 1.0 for i in parents],
            vote=vote,
            normalize=normalize,
            lambda_=lambda_,
        )

    return merge
