"""DARE: drop entries of the task vectors at random, rescale the rest, add them to the base."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from search.method import MethodDeclaration
from workers.merge_method import Sources, merge_method
from workers.task_vectors import (
    DENSITY,
    LAMBDA,
    WEIGHT,
    Chosen,
    Rescale,
    add_task_vectors,
    normalize,
    rescale,
)

_DECLARATION = MethodDeclaration(
    name="dare_linear",
    summary="Drop changes at random, rescale the rest, add them to the base.",
    source="Yu et al. 2024, arXiv:2311.03099",
    parameters=(
        WEIGHT,
        DENSITY,
        normalize(default=False),
        rescale(default="1/density"),
        LAMBDA,
    ),
    uses_base=True,
    parent_values={"density": 1.0, "lambda": 1.0},
    mergekit="dare_linear",
)


@merge_method(_DECLARATION)
def dare_linear(
    out: Tensor,
    sources: Sources,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    normalize: bool,
    rescale: Rescale,
    lambda_: float,
) -> None:
    """Task arithmetic on randomly sparsified task vectors."""
    add_task_vectors(
        out,
        sources,
        [Chosen(sources.noise_key(i), fraction) for i, fraction in enumerate(density)],
        weight=weight,
        density=density,
        rescale=rescale,
        vote=False,
        normalize=normalize,
        lambda_=lambda_,
    )
