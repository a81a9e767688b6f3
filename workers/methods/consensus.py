"""Consensus merging: of the sum of task vectors, keep what serves several of them (TALL masks)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.directions import add_directions
from workers.merging.merge_method import Sources, merge_method
from workers.merging.multi_task import MULTI_TASK_VECTOR, MultiTaskVector, multi_task_vector
from workers.merging.whole_model import by_element

_DECLARATION = MethodDeclaration(
    name="consensus",
    summary="Keep the entries of the summed changes that matter to several parents, drop the rest.",
    source="Wang et al. 2024, arXiv:2405.07813",
    parameters=(
        Parameter(
            "scaling",
            "factor of what is kept (alpha of the paper); a searched one costs nothing",
            default=0.4,
            low=0.1,
            high=1.2,
        ),
        Parameter(
            "lambda",
            "an entry matters to a parent whose own change exceeds lambda times what the others "
            "add to it",
            per_parent=True,
            default=0.2,
            low=0.2,
            high=0.6,
            minimum=0.0,
        ),
        Parameter(
            "k",
            "how many parents an entry must matter to: 1 drops what serves nobody, 2 also what "
            "serves a single one",
            "integer",
            default=2,
            low=1,
            high=3,
            minimum=0,
        ),
        MULTI_TASK_VECTOR,
    ),
    uses_base=True,
    cost="prepared",
    parent_values=None,
)


@merge_method(_DECLARATION)
def consensus(
    out: Tensor,
    sources: Sources,
    *,
    scaling: float,
    lambda_: Sequence[float],
    k: int,
    multi_task_vector: MultiTaskVector,
) -> None:
    """Base plus scaling times the multi-task vector where at least k masks are set."""
    what = ("consensus", tuple(lambda_), k, multi_task_vector)

    def find() -> tuple[Tensor, ...]:
        return _agreed(sources, lambda_, k, multi_task_vector)

    add_directions(out, sources, what, find, (scaling,))


def tall_masks(deltas: Tensor, total: Tensor, limits: Sequence[float]) -> Tensor:
    """Which entries of the multi-task vector serve which parent.

    Args:
        deltas: (parents, *shape) task vectors.
        total: (*shape) multi-task vector.
        limits: lambda of each parent.

    Returns:
        (parents, *shape) booleans: the task vector is strictly greater than lambda times its
        distance to the multi-task vector.
    """
    limit = torch.tensor(limits, dtype=deltas.dtype, device=deltas.device)
    return deltas.abs() > limit.view(-1, *[1] * total.ndim) * (total - deltas).abs_()


def _agreed(
    sources: Sources, limits: Sequence[float], k: int, kind: MultiTaskVector
) -> tuple[Tensor, ...]:
    merge = multi_task_vector(sources, kind)

    def agreed(deltas: Tensor) -> Tensor:
        total = merge(deltas)
        votes = tall_masks(deltas, total, limits).count_nonzero(0)
        return total.where(votes >= k, 0.0)[None]

    return by_element(sources, 1, agreed)
