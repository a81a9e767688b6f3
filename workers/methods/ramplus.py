"""RAM+: as RAM, with what one parent alone changes turned up to make up for what it shares."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.directions import add_directions
from workers.merging.merge_method import Sources, merge_method
from workers.merging.ram import EPSILON, SOURCE, changes
from workers.merging.task_vectors import LAMBDA

Scope = Literal["tensor", "model"]

_DECLARATION = MethodDeclaration(
    name="ramplus",
    summary="As ram, with the changes of one parent alone turned up by how much it shares.",
    source=SOURCE,
    parameters=(
        EPSILON,
        Parameter("r", "how much louder unique changes get per unit of overlap", default=0.1),
        Parameter(
            "alpha",
            "largest overlap (ratio of shared to unique changes) that counts",
            default=0.2,
            minimum=0.0,
        ),
        Parameter(
            "scope",
            "where shared and unique changes are counted",
            "choice",
            default="tensor",
            choices=("tensor", "model"),
        ),
        LAMBDA,
    ),
    uses_base=True,
    cost="prepared",
    directions=(1, 1),
    parent_values=None,
    mergekit="ramplus_tl",
    presets={"mergekit": {"scope": "tensor", "lambda": 1.0}, "paper": {"scope": "model"}},
)


@merge_method(_DECLARATION)
def ramplus(
    out: Tensor,
    sources: Sources,
    *,
    epsilon: float,
    r: float,
    alpha: float,
    scope: Scope,
    lambda_: float,
) -> None:
    """Base plus lambda times the shared changes and, each turned up, those of one parent alone."""
    shared, unique = _counted(sources, epsilon, scope)
    # A parent without unique changes has nothing to turn up.
    overlap = shared / np.maximum(unique, 1)
    factors = lambda_ * (1.0 + r * np.minimum(overlap, alpha))

    def find() -> tuple[Tensor, ...]:
        size = (1 + len(sources.parents), sources.base.numel())
        directions = torch.empty(size, dtype=sources.dtype, device=sources.base.device)
        for here in changes(sources, epsilon):
            directions[0, here.part] = torch.where(here.count > 1, here.mean, 0.0)
            directions[1:, here.part] = torch.where(here.count == 1, here.active, 0.0)
        return tuple(directions.view(len(directions), *sources.base.shape))

    add_directions(out, sources, ("ramplus", epsilon), find, (lambda_, *factors.tolist()))


def _counted(sources: Sources, epsilon: float, scope: Scope) -> NDArray[np.int64]:
    """(2, k) numbers of shared and of unique changes of each parent."""

    def here(tensor: Sources) -> NDArray[np.int64]:
        return tensor.remember(("ram changes", epsilon), lambda: _count(tensor, epsilon))

    def everywhere() -> NDArray[np.int64]:
        total: NDArray[np.int64] = np.sum([here(tensor) for tensor in sources.model()], axis=0)
        return total

    if scope == "tensor":
        return here(sources)
    return sources.remember_model(("ram changes", epsilon), everywhere)


def _count(sources: Sources, epsilon: float) -> NDArray[np.int64]:
    counts = torch.zeros((2, len(sources.parents)), dtype=torch.int64, device=sources.base.device)
    for here in changes(sources, epsilon):
        counts[0] += (here.is_active & (here.count > 1)).sum(1)
        counts[1] += (here.is_active & (here.count == 1)).sum(1)
    return np.asarray(counts.cpu().numpy(), np.int64)
