"""Task arithmetic: add weighted task vectors to the base."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.directions import add_deltas
from workers.merging.merge_method import Sources, merge_method
from workers.merging.task_vectors import LAMBDA, common_divisor, normalize

_DECLARATION = MethodDeclaration(
    name="task_arithmetic",
    summary="Base plus weighted differences of the parents to the base.",
    source="Ilharco et al. 2023, arXiv:2212.04089",
    parameters=(
        Parameter(
            "weight",
            "factor of the parent's task vector; a negative one unlearns",
            per_parent=True,
            default=0.4,
            low=-0.2,
            high=1.2,
        ),
        normalize(default=False),
        LAMBDA,
    ),
    uses_base=True,
    parent_values={"lambda": 1.0},
    mergekit="task_arithmetic",
)


@merge_method(_DECLARATION)
def task_arithmetic(
    out: Tensor, sources: Sources, *, weight: Sequence[float], normalize: bool, lambda_: float
) -> None:
    """Base plus lambda times the sum of weight times (parent - base)."""
    divisor = common_divisor(weight) if normalize else 1.0
    add_deltas(out, sources, [lambda_ * w / divisor for w in weight])
