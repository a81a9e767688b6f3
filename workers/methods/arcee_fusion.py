"""Arcee Fusion: take from the parent only the changes that matter much more than most."""

from __future__ import annotations

import torch
from torch import Tensor

from search.method import MethodDeclaration
from workers.kernels.row_sum import as_rows
from workers.merging.directions import add_directions
from workers.merging.merge_method import Sources, merge_method
from workers.merging.order import order_statistics
from workers.merging.task_vectors import LAMBDA

_FLOOR = 1e-8  # of probabilities
_FENCE = 1.5  # interquartile ranges above the median
_BLOCK = 1 << 20

_DECLARATION = MethodDeclaration(
    name="arcee_fusion",
    summary="Base plus those changes of one parent that are far more important than most.",
    source="mergekit, Goddard et al. 2024, arXiv:2403.13257",
    parameters=(LAMBDA,),
    uses_base=True,
    cost="prepared",
    maximum_parents=1,
    parent_values=None,
    mergekit="arcee_fusion",
    presets={"mergekit": {"lambda": 1.0}},
)


@merge_method(_DECLARATION)
def arcee_fusion(out: Tensor, sources: Sources, *, lambda_: float) -> None:
    """Base plus lambda times the changes whose importance is no outlier from below.

    An entry's importance is its change times the divergence of its row; those are kept that reach
    median plus 1.5 interquartile ranges of the tensor. mergekit estimates these from a random
    sample where a tensor has more than a million entries.
    """
    add_directions(out, sources, "arcee_fusion", lambda: [_important(sources)], (lambda_,))


def _important(sources: Sources) -> Tensor:
    """(*shape) changes that are kept, else 0."""
    delta = sources.delta(0)
    if delta.numel() == 0:
        return delta
    importance = as_rows(delta, "last").abs().mul_(_divergence(sources)).reshape(delta.shape)
    fence = _fence(importance)
    return torch.where(importance < fence, 0.0, delta)


def _divergence(sources: Sources) -> Tensor:
    """(rows, 1) Kullback-Leibler divergence of the softmax of the parent's rows from the base's.

    In the precision of the reference: what is kept hangs on its last digits.
    """
    theirs, ours = (as_rows(tensor, "last") for tensor in (sources.parents[0], sources.base))
    step = max(1, _BLOCK // theirs.shape[1])
    parts = []
    for start in range(0, len(theirs), step):
        p, q = (
            torch.softmax(rows[start : start + step].to(sources.dtype), -1).add_(_FLOOR)
            for rows in (theirs, ours)
        )
        parts.append((p * (p / q).log()).sum(-1, keepdim=True))
    return torch.cat(parts)


def _fence(importance: Tensor) -> float:
    """Quartiles are the entries at the rounded-down places of the sorted tensor."""
    last = importance.numel() - 1
    places = [int(fraction * last) for fraction in (0.25, 0.5, 0.75)]
    low, median, high = order_statistics(importance, places)
    return median + _FENCE * (high - low)
