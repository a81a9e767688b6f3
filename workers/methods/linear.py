"""Linear: the weighted sum of the parents, a model soup."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.kernels.weighted_sum import weighted_sum
from workers.merging.merge_method import NotMergeable, Sources, merge_method
from workers.merging.task_vectors import NO_WEIGHT

_DECLARATION = MethodDeclaration(
    name="linear",
    summary="Weighted average of the parents.",
    source="Wortsman et al. 2022, arXiv:2203.05482",
    parameters=(
        Parameter("weight", "share of the parent", per_parent=True, default=1.0),
        Parameter("normalize", "divide by the sum of the weights", "flag", default=True),
    ),
    uses_base=False,
    parent_values={},
    mergekit="linear",
)


@merge_method(_DECLARATION)
def linear(out: Tensor, sources: Sources, *, weight: Sequence[float], normalize: bool) -> None:
    """Sum of weight times parent, divided by the sum of the weights when ``normalize``."""
    divisor = sum(weight) if normalize else 1.0
    if abs(divisor) < NO_WEIGHT:
        raise NotMergeable(
            f"the weights of the parents sum to {divisor:g} at '{sources.name}', and normalize "
            "divides by that; raise a weight or turn normalize off"
        )
    weighted_sum(out, sources.parents, [w / divisor for w in weight])
