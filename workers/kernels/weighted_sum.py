"""The one loop that most candidates spend their merge in: a weighted sum at memory bandwidth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.kernels import fused
from workers.kernels.fused import NotFinite

# Two float32 work buffers of this many elements stay in the second-level cache of a CPU core.
_BLOCK = 1 << 18


def sum_dtype(out: Tensor) -> torch.dtype:
    """The dtype in which sums are taken that end in ``out``."""
    return torch.float64 if out.dtype == torch.float64 else torch.float32


def write(out: Tensor, values: Tensor) -> None:
    """Round ``values`` into ``out``.

    Raises:
        NotFinite: what was written holds an infinity or a NaN.
    """
    out.copy_(values)
    # The extremes of a tensor with a NaN are NaN. Finding them is many times as fast as isfinite().
    if out.numel() and not torch.stack(out.aminmax()).isfinite().all():
        raise NotFinite


def weighted_sum(out: Tensor, tensors: Sequence[Tensor], coefficients: Sequence[float]) -> None:
    """Write the sum of ``coefficients[i] * tensors[i]`` into ``out``.

    Every tensor is read once and ``out`` written once: partial sums never leave the registers, or
    the cache where no loop is compiled. Tensors with coefficient 0 are not read, so that a one-hot
    sum is that tensor exactly.

    Args:
        out: any shape, contiguous; rounded once, to its dtype.
        tensors: as ``out`` in shape, contiguous, any floating dtype, none sharing memory with
            ``out``.
        coefficients: one for each tensor.

    Raises:
        NotFinite: the sum holds an infinity or a NaN.
    """
    terms = [(t.reshape(-1), c) for t, c in zip(tensors, coefficients, strict=True) if c != 0.0]
    flat = out.view(-1)
    if not terms:
        flat.zero_()
        return
    loop = fused.linear(len(terms))
    if fused.fits(loop, out, [tensor for tensor, _ in terms]):
        fused.run(loop, [flat, *(t for t, _ in terms)], fused.rounded(c for _, c in terms))
        return
    block = _BLOCK if out.device.type == "cpu" else flat.numel()
    dtype = sum_dtype(out)
    total = torch.empty(min(block, flat.numel()), dtype=dtype, device=out.device)
    term = torch.empty_like(total)
    for start in range(0, flat.numel(), block):
        target = flat[start : start + block]
        # A target of the right dtype needs no buffer: the sum is taken where it will stay.
        here = target if out.dtype == dtype else total[: target.numel()]
        _accumulate(here, term[: target.numel()], start, terms)
        write(target, here)


def _accumulate(
    total: Tensor, term: Tensor, start: int, terms: Sequence[tuple[Tensor, float]]
) -> None:
    stop = start + total.numel()
    (first, coefficient), *others = terms
    total.copy_(first[start:stop]).mul_(coefficient)
    for tensor, coefficient in others:
        part = tensor[start:stop]
        if part.dtype != total.dtype:
            part = term.copy_(part)
        total.add_(part, alpha=coefficient)
