"""SCE: select entries in which parents vary, calculate weights from them, erase minority signs."""

from __future__ import annotations

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.directions import add_directions
from workers.merging.merge_method import Sources, merge_method
from workers.merging.task_vectors import LAMBDA

_DECLARATION = MethodDeclaration(
    name="sce",
    summary="Select entries that differ most, weight parents by their size there, vote on signs.",
    source="Wan et al. 2024, arXiv:2408.07990",
    parameters=(
        Parameter(
            "select_topk",
            "fraction of entries that is selected, of those in which parents differ",
            default=1.0,
            low=0.05,
            high=1.0,
            minimum=0.0,
            maximum=1.0,
            log=True,
        ),
        Parameter(
            "mask_deltas",
            "merge selected entries only, as mergekit; without it, as in the authors' code, the "
            "selection decides on weights and all entries are merged",
            "flag",
            default=True,
        ),
        Parameter(
            "uniform_below",
            "mean square of the selected changes, summed over parents, below which all weigh the "
            "same; mergekit's 1e-6 does that to most fine-tunes in bfloat16",
            default=0.0,
            low=0.0,
            high=1e-6,
            minimum=0.0,
        ),
        LAMBDA,
    ),
    uses_base=True,
    cost="prepared",
    parent_values=None,
    mergekit="sce",
    presets={
        "mergekit": {"mask_deltas": True, "uniform_below": 1e-6, "lambda": 1.0},
        "paper": {"mask_deltas": False, "uniform_below": 0.0},
    },
)


@merge_method(_DECLARATION)
def sce(
    out: Tensor,
    sources: Sources,
    *,
    select_topk: float,
    mask_deltas: bool,
    uniform_below: float,
    lambda_: float,
) -> None:
    """Base plus lambda times the merged task vector.

    Which of equally varying entries are selected, ``torch.topk`` decides, as in mergekit. Parents
    that are all alike vary nowhere: then nothing is selected, unless ``select_topk`` is 1.
    """
    add_directions(
        out,
        sources,
        ("sce", select_topk, mask_deltas, uniform_below),
        lambda: [_merged(sources.deltas(), select_topk, mask_deltas, uniform_below)],
        (lambda_,),
    )


def _merged(deltas: Tensor, topk: float, mask_deltas: bool, uniform_below: float) -> Tensor:
    """(*shape) merged task vector of (k, *shape) task vectors."""
    flat = deltas.reshape(len(deltas), -1)
    if topk < 1.0:
        selected = flat * _selected(flat, topk)
        weights = _weights(selected, uniform_below)
        flat = selected if mask_deltas else flat
    else:
        weights = _weights(flat, uniform_below)
    sign = torch.where(flat.sum(0) >= 0.0, 1.0, -1.0)
    agreeing = (flat.sign() == sign) * weights
    divisor = agreeing.sum(0)
    divisor.masked_fill_(divisor == 0.0, 1.0)  # nobody agrees where nobody changes anything
    return ((flat * agreeing).sum(0) / divisor).reshape(deltas.shape[1:])


def _selected(flat: Tensor, topk: float) -> Tensor:
    """(numel,) which entries have the largest variances over (k, numel) task vectors."""
    variance = (flat - flat.mean(0)).square_().mean(0)
    # In float32 like mergekit: a product just below a whole number is rounded up to it there.
    count = int(variance.count_nonzero() * topk)
    selected = torch.zeros_like(variance, dtype=torch.bool)
    selected[variance.topk(count).indices] = True
    return selected


def _weights(flat: Tensor, uniform_below: float) -> Tensor:
    """(k, 1) shares of the parents, by the mean squares of (k, numel) changes."""
    squares = flat.square().mean(1, keepdim=True, dtype=torch.float64)
    total = float(squares.sum())
    if total == 0.0 or total < uniform_below:
        return torch.full_like(squares, 1.0 / len(flat)).to(flat.dtype)
    return (squares / total).to(flat.dtype)
