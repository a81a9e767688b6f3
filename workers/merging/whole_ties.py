"""TIES as its authors wrote it: the trim and the tie of the vote look at the whole model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workers.merging.directions import add_directions
from workers.merging.merge_method import Sources
from workers.merging.task_vectors import NO_WEIGHT
from workers.merging.whole_model import (
    Deltas,
    blocks,
    by_element,
    finite_deltas,
    thresholds,
)

MergeFunc = Literal["mean", "sum", "max"]


@dataclass(frozen=True, slots=True)
class WholeTies:
    """What the whole model tells of a density.

    Args:
        thresholds: for each parent, the magnitude that its entries must reach.
        tied: the sign of entries whose votes cancel.
    """

    thresholds: tuple[float, ...]
    tied: float

    def merged(
        self, deltas: Tensor, merge_func: MergeFunc, weight: Sequence[float] | None = None
    ) -> Tensor:
        """(elements,) of the merged task vector.

        Args:
            deltas: (parents, elements) task vectors; left as they are.
            merge_func: what becomes of the kept entries of the elected sign: their mean, their sum,
                or the largest of them.
            weight: for each parent, multiplies its entries after the vote; the mean divides by the
                weights of those that take part. Without, as with 1 for each, the paper's.
        """
        kept = _trimmed(deltas, self.thresholds)
        sign = kept.sum(0).sign_()
        sign.masked_fill_(sign == 0, self.tied)
        agreeing = (kept * sign).clamp_min_(0.0)
        weights = torch.ones(len(deltas)) if weight is None else torch.tensor(weight)
        weights = weights.to(deltas).unsqueeze(1)
        votes = (agreeing != 0) * weights
        agreeing *= weights
        match merge_func:
            case "mean":
                voters = votes.sum(0)
                total = agreeing.sum(0) / voters.masked_fill_(voters.abs() < NO_WEIGHT, 1.0)
            case "sum":
                total = agreeing.sum(0)
            case "max":
                total = agreeing.amax(0)
        return total * sign


def whole_ties(
    sources: Sources, density: Sequence[float], deltas: Deltas = finite_deltas
) -> WholeTies:
    """How to merge task vectors by the programs of the TIES paper.

    Yadav et al. 2023 (arXiv:2306.01708), Algorithm 1: each parent keeps the largest entries of its
    flattened model (floor(density * d) + 1 of d, and those that equal the least of them). The sign
    of an entry is that of the sum of what is kept, without weights; where the sum is 0, the sign
    that most entries of the model have.

    Args:
        sources: any tensor of the model.
        density: for each parent, the fraction of its whole model that is kept, in (0, 1].
        deltas: what is left of the task vectors; hashable, and equal where it leaves the same.

    Raises:
        NotMergeable: a tensor of the model is not finite.
    """
    what = ("whole_ties", tuple(density), deltas)
    return sources.remember_model(what, lambda: _look(sources, density, deltas))


def add_whole_ties(
    out: Tensor,
    sources: Sources,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    merge_func: MergeFunc,
    scaling: float,
    deltas: Deltas = finite_deltas,
) -> None:
    """Write the base plus ``scaling`` times the merged task vector into ``out``.

    The merged task vector is kept, so that a search over ``scaling`` alone costs no vote.
    """

    def find() -> tuple[Tensor, ...]:
        ties = whole_ties(sources, density, deltas)
        return by_element(
            sources, 1, lambda left: ties.merged(left, merge_func, weight)[None], deltas
        )

    what = ("whole_ties", tuple(density), tuple(weight), merge_func, deltas)
    add_directions(out, sources, what, find, (scaling,))


def _look(sources: Sources, density: Sequence[float], deltas: Deltas) -> WholeTies:
    limits = thresholds(sources, density, deltas=deltas)
    balance = sum(
        int(_trimmed(deltas(part), limits).sum(0).sign().sum()) for part in blocks(sources.model())
    )
    # Where plus and minus balance in the whole model too, the authors' program keeps the minus.
    return WholeTies(limits, tied=1.0 if balance > 0 else -1.0)


def _trimmed(deltas: Tensor, limits: tuple[float, ...]) -> Tensor:
    limit = torch.tensor(limits, dtype=deltas.dtype, device=deltas.device)
    return deltas.masked_fill(deltas.abs() < limit[:, None], 0.0)
