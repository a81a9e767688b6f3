"""The multi-task vector: what masks and depth scalings are put on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from search.method import Parameter
from workers.merging.merge_method import Sources
from workers.merging.whole_ties import whole_ties

MultiTaskVector = Literal["sum", "ties sum top-20%"]

# The density at which the programs of both papers run TIES.
_DENSITY = 0.2

MULTI_TASK_VECTOR = Parameter(
    "multi_task_vector",
    "what is masked or scaled: the sum of the task vectors, or what TIES sums of the largest fifth "
    "of each",
    "choice",
    default="sum",
    choices=("sum", "ties sum top-20%"),
)


def multi_task_vector(sources: Sources, kind: MultiTaskVector) -> Callable[[Tensor], Tensor]:
    """The function from (parents, elements) task vectors to the (elements,) that all make.

    Args:
        sources: any tensor of the model; all of it is read where TIES needs that.
        kind: which.
    """
    if kind == "sum":
        return lambda deltas: deltas.sum(0)
    ties = whole_ties(sources, (_DENSITY,) * len(sources.parents))
    return lambda deltas: ties.merged(deltas, "sum")
