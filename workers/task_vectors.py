"""Sparsify task vectors, elect signs, and add what is left to the base.

The family of TIES and DARE: its members differ in which entries of a task vector (the difference
between a parent and the base) survive, and in whether the survivors vote on signs. Which entries
survive is told by a few scalars for each tensor, so that everything else happens in one pass of
cache-sized blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from search.method import Parameter
from workers.merge_method import Sources
from workers.weighted_sum import sum_dtype

Rescale = Literal["none", "l1", "1/density"]
# (block of a task vector, offset of the block) -> the block with 0 for what does not survive.
Sparsifier = Callable[[Tensor, int], Tensor]

# Divisors smaller than this are replaced by 1, as mergekit does.
NO_WEIGHT = 1e-8
# Below this a sparsified vector has no L1 norm to be scaled up.
_NO_NORM = 1e-7
# The buffers of all parents together stay in the second-level cache of a CPU core.
_BLOCK = 1 << 16
# What one step of Philox's counter yields: four words of 64 bits, each good for two draws.
_DRAWS_PER_STEP = 8
# Selection looks at this many values first. The place of the k-th largest in a sample is off by a
# few times the square root of its size (64); the margin is far more.
_SAMPLE = 4096
_MARGIN = 256

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
    """Keeps the largest magnitudes.

    Args:
        threshold: greater magnitudes survive.
        cutoff: equal ones survive at flat indices below this.
    """

    threshold: float
    cutoff: int

    def __call__(self, delta: Tensor, start: int) -> Tensor:
        """(block,)."""
        places = self.cutoff - start
        if places <= 0:
            return hardshrink(delta, self.threshold)
        exact = np.float32 if delta.dtype == torch.float32 else np.float64
        just_below = float(np.nextafter(exact(self.threshold), exact(0)))
        if places >= delta.numel():
            return hardshrink(delta, just_below)
        parts = (delta[:places], just_below), (delta[places:], self.threshold)
        return torch.cat([hardshrink(part, limit) for part, limit in parts])


@dataclass(frozen=True, slots=True)
class Chosen:
    """Keeps each entry with one probability, by counter-based random bits.

    What a low probability keeps, a higher one keeps as well.

    Args:
        key: 128 bits; equal keys choose equally.
        density: probability, to a resolution of 2**-32.
    """

    key: int
    density: float

    def __call__(self, delta: Tensor, start: int) -> Tensor:
        """(block,); ``start`` is a multiple of 8."""
        limit = int(self.density * 2**32)
        if limit >= 2**32:
            return delta
        generator = np.random.Philox(key=self.key, counter=start // _DRAWS_PER_STEP)
        words = np.asarray(generator.random_raw((delta.numel() + 1) // 2))
        draws = words.astype("<u8", copy=False).view("<u4")[: delta.numel()]
        return delta * torch.from_numpy(draws < limit).to(delta.device)


def largest(out: Tensor, sources: Sources, parent: int, density: float) -> Largest:
    """Which floor(density * numel) entries of a parent's task vector are largest; at least one is.

    Of equal magnitudes the lowest flat indices win. Remembered with the sources: where densities
    are not searched, a candidate costs no selection.
    """
    kept = max(1, int(density * out.numel()))
    if kept >= out.numel():
        return Largest(threshold=0.0, cutoff=0)
    return sources.remember(
        ("largest", parent, kept), lambda: _select(_TaskVectors(out, sources), parent, kept)
    )


def add_task_vectors(
    out: Tensor,
    sources: Sources,
    sparsifiers: Sequence[Sparsifier],
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
        sparsifiers: for each parent, what keeps some of its entries.
        weight: for each parent, multiplies its survivors.
        density: for each parent, the fraction that was asked for.
        rescale: how survivors make up for the others.
        vote: elect signs.
        normalize: divide by the sum of the weights that take part, or by 1 where that is nothing.
        lambda_: multiplies the sum.
    """
    vectors = _TaskVectors(out, sources)
    scales = [
        weight[i] * _scale(rescale, density[i], sparsify, vectors, i)
        for i, sparsify in enumerate(sparsifiers)
    ]
    target = out.view(-1)
    for start in vectors.starts:
        base = vectors.base(start)
        votes = [
            sparsify(vectors.delta(i, start, base), start).mul_(scale)
            for i, (sparsify, scale) in enumerate(zip(sparsifiers, scales, strict=True))
        ]
        total, divisor = _elected(votes, weight) if vote else (_sum(votes), sum(weight))
        if normalize:
            total.div_(_safe(divisor))
        target[start : start + base.numel()] = total.mul_(lambda_).add_(base)


class _TaskVectors:
    """Differences between the parents and the base, flattened, in blocks, in the dtype of the sums.

    A difference taken in bfloat16 would lose most of its bits.
    """

    def __init__(self, out: Tensor, sources: Sources) -> None:
        self._base = sources.base.reshape(-1)
        self._parents = [parent.reshape(-1) for parent in sources.parents]
        self._dtype = sum_dtype(out)
        self._block = _BLOCK if out.device.type == "cpu" else max(1, out.numel())
        self.starts = range(0, out.numel(), self._block)

    def base(self, start: int) -> Tensor:
        """(block,) elements of the base."""
        return self._base[start : start + self._block].to(self._dtype)

    def delta(self, parent: int, start: int, base: Tensor | None = None) -> Tensor:
        """(block,) elements of a task vector, newly allocated; ``base`` saves reading it again."""
        theirs = self._parents[parent][start : start + self._block].to(self._dtype)
        return torch.sub(theirs, self.base(start) if base is None else base)

    def magnitude(self, parent: int) -> Tensor:
        """(numel,) magnitudes of a task vector."""
        return torch.cat([self.delta(parent, start).abs_() for start in self.starts])


def _scale(
    rescale: Rescale, density: float, sparsify: Sparsifier, vectors: _TaskVectors, parent: int
) -> float:
    """The factor by which the surviving entries of a task vector make up for the others."""
    match rescale:
        case "none":
            return 1.0
        case "1/density":
            return 1.0 / density
    before = after = 0.0
    for start in vectors.starts:
        delta = vectors.delta(parent, start)
        before += float(delta.abs().sum(dtype=torch.float64))
        after += float(sparsify(delta, start).abs().sum(dtype=torch.float64))
    return before / after if after > _NO_NORM else 1.0


def _elected(votes: Sequence[Tensor], weight: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Sum of the entries that have the elected sign, and sum of their weights."""
    total = _sum(votes)
    sign = torch.ones_like(total).copysign_(total)
    total, divisor = total.zero_(), torch.zeros_like(total)
    for entry, factor in zip(votes, weight, strict=True):
        agreeing = entry.mul_(sign).clamp_min_(0.0)  # an entry of 0 never agrees
        total.add_(agreeing)
        divisor.add_(agreeing.sign_(), alpha=factor)
    return total.mul_(sign), divisor


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total


def _safe(divisor: Tensor | float) -> Tensor | float:
    if isinstance(divisor, Tensor):
        return divisor.masked_fill_(divisor.abs() < NO_WEIGHT, 1.0)
    return 1.0 if abs(divisor) < NO_WEIGHT else divisor


def _select(vectors: _TaskVectors, parent: int, kept: int) -> Largest:
    magnitude = vectors.magnitude(parent)
    threshold, above, tied = _kth_largest(magnitude, kept)
    places = kept - above
    if places == tied:
        return Largest(threshold, cutoff=magnitude.numel())
    return Largest(threshold, cutoff=_nth_equal(magnitude, threshold, places))


def _kth_largest(values: Tensor, k: int) -> tuple[float, int, int]:
    """The k-th largest of (numel,) values, how many are larger, and how many are equal.

    Exact. A sample tells between which two values it lies, so that few have to be sorted; sorting
    is fast where many values are equal (differences in bfloat16), quickselect is not.
    """
    above, inside = 0, values
    if values.numel() > 4 * _SAMPLE:
        sample = values[:: values.numel() // _SAMPLE].sort(descending=True).values
        place = k * sample.numel() // values.numel()
        high = sample[max(0, place - _MARGIN)]
        low = sample[min(place + _MARGIN, sample.numel() - 1)]
        larger = int((values > high).count_nonzero())
        between = values[(values >= low) & (values <= high)]
        if larger < k <= larger + between.numel():
            above, inside = larger, between
    ordered = _sorted(inside)
    threshold = ordered[ordered.numel() - (k - above)]
    above += int((inside > threshold).count_nonzero())
    return float(threshold), above, int((inside == threshold).count_nonzero())


def _sorted(values: Tensor) -> Tensor:
    """Ascending; on the CPU by NumPy, whose sort is vectorized."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy()))
    return values.sort().values


def _nth_equal(values: Tensor, value: float, n: int) -> int:
    """The flat index behind the n-th of the entries that equal ``value``."""
    return int((values == value).nonzero()[n - 1]) + 1
