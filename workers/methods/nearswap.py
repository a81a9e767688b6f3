"""NearSwap: move every entry of the base towards the parent, by no more than a given distance."""

from __future__ import annotations

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.kernels import fused
from workers.kernels.weighted_sum import write
from workers.merging.merge_method import Sources, merge_method

# Work buffers of this many elements stay in the second-level cache of a CPU core.
_BLOCK = 1 << 15

_DECLARATION = MethodDeclaration(
    name="nearswap",
    summary="Base, every entry moved towards the parent by no more than a given distance.",
    source="mergekit, Goddard et al. 2024, arXiv:2403.13257",
    parameters=(
        Parameter(
            "t",
            "largest change of an entry, in units of the weights",
            default=1e-3,
            low=1e-5,
            high=1e-2,
            minimum=0.0,
            log=True,
        ),
    ),
    uses_base=True,
    cost="vote",
    maximum_parents=1,
    parent_values=None,
    mergekit="nearswap",
)


@merge_method(_DECLARATION)
def nearswap(out: Tensor, sources: Sources, *, t: float) -> None:
    """Entries that are no further apart than ``t`` are the parent's, exactly.

    mergekit weights both by t / distance, which is the same but for distances below its floor of
    1e-6: there a smaller ``t`` moves entries in proportion to their distance.
    """
    loop = fused.clamped()
    if fused.fits(loop, out, [sources.base, sources.parents[0]]):
        arrays = [x.view(-1) for x in (out, sources.base, sources.parents[0])]
        fused.run(loop, arrays, fused.rounded([t]))
        return
    target, base, parent = out.view(-1), sources.base.reshape(-1), sources.parents[0].reshape(-1)
    step = _BLOCK if out.device.type == "cpu" else max(1, out.numel())
    for start in range(0, out.numel(), step):
        part = slice(start, start + step)
        here, there = (x[part].to(sources.dtype) for x in (base, parent))
        write(target[part], torch.clamp(there, here - t, here + t))
