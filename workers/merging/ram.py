"""RAM and RAM+: which entries each parent changes, and with how many others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from search.method import Parameter
from workers.merging.merge_method import Sources

SOURCE = "Yuan et al. 2026, arXiv:2601.13572"

EPSILON = Parameter(
    "epsilon",
    "entries that a parent changes by more than this are active, in units of the weights",
    default=1e-5,
    low=1e-7,
    high=1e-2,
    minimum=0.0,
    log=True,
)

# Work buffers of this many elements, one for each parent, stay in the cache of a CPU core.
_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """Part of the task vectors of a tensor, flattened.

    Args:
        part: of the flattened tensor.
        active: (k, block) task vectors, 0 where a parent is not active.
        is_active: (k, block).
        count: (block,) how many parents are active, in the dtype of the task vectors.
    """

    part: slice
    active: Tensor
    is_active: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """(block,) mean change of the active parents, 0 where there are none."""
        return self.active.sum(0).div_(self.count.clamp(min=1.0))


def changes(sources: Sources, epsilon: float) -> Iterator[Changes]:
    """The task vectors in blocks; what is not a number is active, so that it is not lost."""
    base, *parents = (t.reshape(-1) for t in (sources.base, *sources.parents))
    step = _BLOCK if base.device.type == "cpu" else max(1, base.numel())
    for start in range(0, base.numel(), step):
        part = slice(start, start + step)
        delta = torch.stack([parent[part].to(sources.dtype) for parent in parents])
        delta -= base[part]
        is_active = ~(delta.abs() <= epsilon)
        active = torch.where(is_active, delta, 0.0)
        yield Changes(part, active, is_active, is_active.sum(0, dtype=sources.dtype))
