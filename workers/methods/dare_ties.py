"""DARE with the vote of TIES: its trim is random, then signs are elected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from search.method import Parameter
from workers.merging.dare import dare, declaration
from workers.merging.merge_method import NotMergeable, Sources, merge_method
from workers.merging.random_masks import chosen
from workers.merging.task_vectors import Rescale, rescaled
from workers.merging.whole_model import finite_deltas
from workers.merging.whole_ties import add_whole_ties

_DECLARATION = declaration(
    "dare_ties",
    "Drop changes at random, rescale the rest, elect a sign per entry, add what agrees.",
)
TRIM = Parameter(
    "trim",
    "fraction of the whole model's entries that are kept of what chance has left, in (0, 1]: 1 for "
    "no trim (mergekit), 0.2 in fusion_bench, where the vote is TIES' own, without weights",
    default=1.0,
    low=0.1,
    high=1.0,
    minimum=1e-6,
    maximum=1.0,
)
_UNTRIMMED = dare(vote=True)


@merge_method(
    replace(
        _DECLARATION,
        parameters=(*_DECLARATION.parameters, TRIM),
        presets={
            "mergekit": {**_DECLARATION.presets["mergekit"], "trim": 1.0},
            "paper": {**_DECLARATION.presets["paper"], "trim": 0.2},
        },
    )
)
def dare_ties(
    out: Tensor,
    sources: Sources,
    *,
    weight: Sequence[float],
    density: Sequence[float],
    normalize: bool,
    rescale: Rescale,
    lambda_: float,
    trim: float,
) -> None:
    """Drop entries at random, then the vote of TIES, with its trim where asked."""
    if trim >= 1.0:
        _UNTRIMMED(
            out,
            sources,
            weight=weight,
            density=density,
            normalize=normalize,
            rescale=rescale,
            lambda_=lambda_,
        )
        return
    if rescale == "l1":
        raise NotMergeable(
            "a trim looks at the whole model, and rescale l1 at each tensor by "
            "itself; take 1/density, or a trim of 1"
        )
    scales = rescaled(rescale, density, lambda _: 1.0)
    add_whole_ties(
        out,
        sources,
        weight=weight,
        density=[trim] * len(weight),
        merge_func="mean" if normalize else "sum",
        scaling=lambda_,
        deltas=_Left(sources.seed, tuple(density), tuple(scales)),
    )


@dataclass(frozen=True, slots=True)
class _Left:
    """What a draw leaves of task vectors.

    Args:
        seed: of the draw.
        density: for each parent, the fraction that is kept.
        scale: for each parent, what makes up for the rest.
    """

    seed: int
    density: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, part: Sources) -> Tensor:
        """(parents, *shape) of a tensor or of a part of one."""
        deltas, mask = finite_deltas(part), chosen(part, self.density)
        rows = [mask.survivors(i, delta.view(-1), 0) for i, delta in enumerate(deltas)]
        left = torch.stack(rows).view_as(deltas)
        return left * left.new_tensor(self.scale).view(-1, *[1] * (left.ndim - 1))
