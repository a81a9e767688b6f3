"""Sparsify task vectors, elect signs, and add what is left to the base.

The family of TIES and DARE: its members differ in which entries of a task vector (the difference
between a parent and the base) survive, and in whether the survivors vote on signs. Which entries
survive is told by a few scalars for each tensor, so that everything else happens in one pass of
cache-sized blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from search.method import Parameter
from workers.merge_method import Sources
from workers.weighted_sum import sum_dtype

Rescale = Literal["none", "l1", "1/density"]
# (block of a task vector, offset of the block) -> bool mask of the entries that survive.
Mask = Callable[[Tensor, int], Tensor]

# Divisors smaller than this are replaced by 1, as mergekit does.
NO_WEIGHT = 1e-8
# Below this a sparsified vector has no L1 norm to be scaled up.
_NO_NORM = 1e-7
# The buffers of all parents together stay in the second-level cache of a CPU core.
_BLOCK = 1 << 16
# What one step of Philox's counter yields: four words of 64 bits, each good for two draws.
_DRAWS_PER_STEP = 8

WEIGHT = Parameter(
    "weight",
    "factor of the parent's task vector",
    per_parent=True,
    default=1.0,
    low=0.0,
    high=1.5,
)
DENSITY = Parameter(
    "density",
    "a density is the fraction of entries that is kept, in (0, 1]",
    per_parent=True,
    default=0.5,
    low=0.1,
    high=1.0,
    minimum=1e-6,
    maximum=1.0,
)
LAMBDA = Parameter(
    "lambda",
    "factor of the merged task vector; without normalize, the same as a factor on every weight",
    default=1.0,
    low=0.3,
    high=2.0,
    log=True,
)


def normalize(*, default: bool) -> Parameter:
    """The flag that divides the merged task vector by the weights that made it."""
    return Parameter(
        "normalize", "divide by the sum of the weights that take part", "flag", default=default
    )


def rescale(*, default: Rescale) -> Parameter:
    """How what is kept makes up for what is dropped."""
    return Parameter(
        "rescale",
        "how to make up for dropped entries: 1/density, l1 (keep the L1 norm of the tensor; "
        "mergekit's true), or none (mergekit's false)",
        "choice",
        default=default,
        choices=("none", "l1", "1/density"),
    )


@dataclass(frozen=True, slots=True)
class Largest:
    """The mask of the largest magnitudes.

    Args:
        threshold: greater magnitudes survive.
        cutoff: equal ones survive at flat indices below this.
    """

    threshold: float
    cutoff: int

    def __call__(self, delta: Tensor, start: int) -> Tensor:
        """(block,) bool."""
        magnitude = delta.abs()
        mask = magnitude > self.threshold
        before = min(max(self.cutoff - start, 0), delta.numel())
        torch.ge(magnitude[:before], self.threshold, out=mask[:before])
        return mask


@dataclass(frozen=True, slots=True)
class Chosen:
    """The mask that keeps each entry with one probability, by counter-based random bits.

    What a low probability keeps, a higher one keeps as well.

    Args:
        key: 128 bits; equal keys give equal masks.
        density: probability, to a resolution of 2**-32.
    """

    key: int
    density: float

    def __call__(self, delta: Tensor, start: int) -> Tensor:
        """(block,) bool; ``start`` is a multiple of 8."""
        limit = int(self.density * 2**32)
        if limit >= 2**32:
            return torch.ones_like(delta, dtype=torch.bool)
        generator = np.random.Philox(key=self.key, counter=start // _DRAWS_PER_STEP)
        words = np.asarray(generator.random_raw((delta.numel() + 1) // 2))
        draws = words.astype("<u8", copy=False).view("<u4")[: delta.numel()]
        return torch.from_numpy(draws < limit).to(delta.device)


def largest(out: Tensor, sources: Sources, parent: int, density: float) -> Largest:
    """Which floor(density * numel) entries of a parent's task vector are largest; at least one is.

    Of equal magnitudes the lowest flat indices win.
    """
    kept = max(1, int(density * out.numel()))
    if kept >= out.numel():
        return Largest(threshold=-1.0, cutoff=0)
    magnitude = torch.cat([delta.abs() for _, delta in _task_vector(out, sources, parent)])
    threshold, above, tied = _kth_largest(magnitude, kept)
    places = kept - above
    if places == tied:
        return Largest(threshold, cutoff=out.numel())
    return Largest(threshold, _nth_equal(threshold, places, _task_vector(out, sources, parent)))


def add_task_vectors(
    out: Tensor,
    sources: Sources,
    masks: Sequence[Mask],
    *,
    weight: Sequence[float],
    density: Sequence[float],
    rescale: Rescale,
    vote: bool,
    normalize: bool,
    lambda_: float,
) -> None:
    """Sparsify, weight, elect signs where asked, sum, normalize, add to the base.

    With a vote, the sign of an entry is that of the weighted sum (plus where it is 0), only entries
    of that sign are added, and ``normalize`` divides by the weights of these alone.

    Args:
        out: receives the merged tensor.
        sources: base and parents.
        masks: for each parent, which of its entries survive.
        weight: for each parent, multiplies its survivors.
        density: for each parent, the fraction that was asked for.
        rescale: how survivors make up for the others.
        vote: elect signs.
        normalize: divide by the sum of the weights that take part, or by 1 where that is nothing.
        lambda_: multiplies the sum.
    """
    scales = [
        _scale(rescale, fraction, mask, _task_vector(out, sources, i))
        for i, (mask, fraction) in enumerate(zip(masks, density, strict=True))
    ]
    deltas = [_task_vector(out, sources, i) for i in range(len(masks))]
    target, base = out.view(-1), sources.base.reshape(-1)
    for blocks in zip(*deltas, strict=True):
        start = blocks[0][0]
        votes = [
            delta.mul_(mask(delta, start)).mul_(factor * scale)
            for (_, delta), mask, factor, scale in zip(blocks, masks, weight, scales, strict=True)
        ]
        total, divisor = _elected(votes, weight) if vote else (_sum(votes), sum(weight))
        if normalize:
            total.div_(_safe(divisor))
        stop = start + total.numel()
        target[start:stop] = total.mul_(lambda_).add_(base[start:stop])


def _task_vector(out: Tensor, sources: Sources, parent: int) -> Iterator[tuple[int, Tensor]]:
    """Blocks of parent - base with their offsets, in the dtype of the sums.

    A difference taken in bfloat16 would lose most of its bits.
    """
    dtype = sum_dtype(out)
    theirs, base = sources.parents[parent].reshape(-1), sources.base.reshape(-1)
    block = _BLOCK if out.device.type == "cpu" else max(1, out.numel())
    for start in range(0, out.numel(), block):
        stop = start + block
        yield start, torch.sub(theirs[start:stop].to(dtype), base[start:stop].to(dtype))


def _scale(
    rescale: Rescale, density: float, mask: Mask, blocks: Iterator[tuple[int, Tensor]]
) -> float:
    """The factor of the surviving entries of one task vector."""
    match rescale:
        case "none":
            return 1.0
        case "1/density":
            return 1.0 / density
    before = after = 0.0
    for start, delta in blocks:
        before += float(delta.abs().sum(dtype=torch.float64))
        after += float(delta.mul_(mask(delta, start)).abs().sum(dtype=torch.float64))
    return before / after if after > _NO_NORM else 1.0


def _elected(votes: Sequence[Tensor], weight: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Sum of the entries that have the elected sign, and sum of their weights."""
    positive = _sum(votes) >= 0
    total, divisor = torch.zeros_like(votes[0]), torch.zeros_like(votes[0])
    for entry, factor in zip(votes, weight, strict=True):
        agrees = torch.where(positive, entry > 0, entry < 0)  # an entry of 0 never agrees
        total.add_(entry.mul_(agrees))
        divisor.add_(agrees, alpha=factor)
    return total, divisor


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total


def _safe(divisor: Tensor | float) -> Tensor | float:
    if isinstance(divisor, Tensor):
        return divisor.masked_fill_(divisor.abs() < NO_WEIGHT, 1.0)
    return 1.0 if abs(divisor) < NO_WEIGHT else divisor


def _kth_largest(magnitude: Tensor, k: int) -> tuple[float, int, int]:
    """The k-th largest entry, how many are larger, how many are equal; reorders the entries."""
    rank = magnitude.numel() - k
    if magnitude.device.type == "cpu":
        magnitude.numpy().partition(rank)  # vectorized: several times as fast as torch's
        threshold = magnitude[rank]
    else:
        threshold = magnitude.kthvalue(rank + 1).values
    above = int((magnitude > threshold).count_nonzero())
    tied = int((magnitude == threshold).count_nonzero())
    return float(threshold), above, tied


def _nth_equal(value: float, n: int, blocks: Iterator[tuple[int, Tensor]]) -> int:
    """The flat index behind the n-th entry whose magnitude is ``value``."""
    for start, delta in blocks:
        found = (delta.abs() == value).nonzero()[:, 0]
        if found.numel() >= n:
            return start + int(found[n - 1]) + 1
        n -= found.numel()
    raise AssertionError("fewer equal magnitudes than were counted")
