"""RAM: keep what one parent alone changes, average what several change."""

from __future__ import annotations

import torch
from torch import Tensor

from search.method import MethodDeclaration
from workers.merging.directions import add_directions
from workers.merging.merge_method import Sources, merge_method
from workers.merging.ram import EPSILON, SOURCE, changes
from workers.merging.task_vectors import LAMBDA

_DECLARATION = MethodDeclaration(
    name="ram",
    summary="Base plus changes of one parent alone, and the average of changes that several share.",
    source=SOURCE,
    parameters=(EPSILON, LAMBDA),
    uses_base=True,
    cost="prepared",
    parent_values=None,
    mergekit="ram",
    presets={"mergekit": {"lambda": 1.0}},
)


@merge_method(_DECLARATION)
def ram(out: Tensor, sources: Sources, *, epsilon: float, lambda_: float) -> None:
    """Base plus lambda times, entry by entry, the mean of the changes larger than epsilon."""

    def find() -> list[Tensor]:
        merged = torch.empty(sources.base.numel(), dtype=sources.dtype, device=sources.base.device)
        for here in changes(sources, epsilon):
            merged[here.part] = here.mean
        return [merged.view(sources.base.shape)]

    add_directions(out, sources, ("ram", epsilon), find, (lambda_,))
