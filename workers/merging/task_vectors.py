"""Sparsify task vectors, elect signs, and add what is left to the base.

The family of TIES, DARE, DELLA and breadcrumbs: its members differ in which entries of a task
vector (the difference between a parent and the base) survive, and in whether the survivors vote on
signs. Which entries survive is told by a few scalars for each tensor, so that everything else
happens in one pass: compiled (``workers.kernels.fused``), or as tensor expressions over
cache-sized blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from search.method import Parameter
from workers.kernels import fused
from workers.kernels.weighted_sum import sum_dtype, write
from workers.merging.merge_method import Sources

Rescale = Literal["none", "l1", "1/density"]

# Divisors smaller than this are replaced by 1, as mergekit does.
NO_WEIGHT = 1e-8
# Below this a sparsified vector has no L1 norm to be scaled up.
NO_NORM = 1e-7
# The buffers of all parents together stay in the second-level cache of a CPU core.
_BLOCK = 1 << 16

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


class Sparsity(Protocol):
    """Which entries of the task vectors of one tensor survive."""

    def survivors(self, parent: int, delta: Tensor, start: int, factor: float = 1.0) -> Tensor:
        """A block of a parent's task vector times a factor, with 0 for what does not survive.

        Args:
            parent: whose.
            delta: (block,) in the dtype of the sums.
            start: flat index of the block in the tensor.
            factor: of what survives.
        """

    def loop(self, count: int, *, vote: bool, normalize: bool) -> fused.Loop | None:
        """The loop for ``count`` parents; None where there is none for this tensor."""

    def scalars(
        self, factors: Sequence[float], size: int
    ) -> tuple[Sequence[object], Sequence[object], Sequence[object]]:
        """What the kernel takes: the factors of the parents, limits, and what comes last.

        Args:
            factors: of what survives of each parent.
            size: elements of the tensor.
        """


def add_task_vectors(
    out: Tensor,
    sources: Sources,
    sparsity: Sparsity,
    *,
    weight: Sequence[float],
    scale: Sequence[float],
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
        sparsity: what keeps some of the entries.
        weight: for each parent, multiplies its survivors.
        scale: for each parent, multiplies them as well but does not count for ``normalize``: makes
            up for what was dropped.
        vote: elect signs.
        normalize: divide by the sum of the weights that take part, or by 1 where that is nothing.
        lambda_: multiplies the sum.

    Raises:
        NotFinite: the merged tensor holds an infinity or a NaN.
    """
    factors = [w * s for w, s in zip(weight, scale, strict=True)]
    factor = lambda_
    if normalize and not vote:
        factor = lambda_ / common_divisor(weight)
    tensors = [sources.base, *sources.parents]
    loop = sparsity.loop(len(weight), vote=vote, normalize=normalize)
    # Loops draw for two neighbours at once: those of an even place and the next.
    if loop is not None and sources.start % 2 == 0 and fused.fits(loop, out, tensors):
        arrays = [tensor.view(-1) for tensor in (out, *tensors)]
        scaled, limits, last = sparsity.scalars(factors, out.numel())
        weights, (common,) = fused.rounded(weight), fused.rounded([factor])
        fused.run(loop, arrays, (*scaled, *weights, *limits, common, *last))
        return
    vectors = TaskVectors(out, sources)
    target = out.view(-1)
    for start in vectors.starts:
        base = vectors.base(start)
        votes = [
            sparsity.survivors(i, vectors.delta(i, start, base), start, scaled)
            for i, scaled in enumerate(factors)
        ]
        if not vote:
            total = add_up(votes)
        elif normalize:
            total = _averaged(votes, weight)
        else:
            total = _agreed(votes)
        write(target[start : start + base.numel()], base.add(total, alpha=factor))


def common_divisor(weight: Sequence[float]) -> float:
    """Sum of the weights, or 1 where that is nothing: what mergekit divides by."""
    total = sum(weight)
    return total if abs(total) >= NO_WEIGHT else 1.0


def rescaled(rescale: Rescale, density: Sequence[float], l1: Callable[[int], float]) -> list[float]:
    """For each parent, what makes up for the entries that were dropped.

    Args:
        rescale: how.
        density: for each parent, the fraction that is kept.
        l1: the factor that gives a parent's survivors the L1 norm of its whole task vector.
    """
    match rescale:
        case "none":
            return [1.0] * len(density)
        case "1/density":
            return [1.0 / fraction for fraction in density]
    return [l1(parent) for parent in range(len(density))]


def l1_scale(sources: Sources, sparsity: Sparsity, parent: int) -> float:
    """The factor that gives the survivors the L1 norm of the whole task vector.

    A pass over base and parent, on expressions: several times as slow as the merge itself.
    """
    vectors = TaskVectors(sources.base, sources)
    before = after = 0.0
    for start in vectors.starts:
        delta = vectors.delta(parent, start)
        before += float(delta.abs().sum(dtype=torch.float64))
        after += float(sparsity.survivors(parent, delta, start).abs_().sum(dtype=torch.float64))
    return before / after if after > NO_NORM else 1.0


class TaskVectors:
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


def _agreed(votes: Sequence[Tensor]) -> Tensor:
    """Sum of the entries that have the sign of the sum of all, plus where that is 0.

    The magnitude of the sum is what agrees less what does not; the sum of magnitudes is both.
    """
    total = add_up(votes)
    both = add_up([entry.abs_() for entry in votes])
    return total.add_(both.copysign_(total)).mul_(0.5)


def _averaged(votes: Sequence[Tensor], weight: Sequence[float]) -> Tensor:
    """The same, divided by the weights of these entries, or by 1 where they weigh nothing."""
    total = add_up(votes)
    sign = torch.ones_like(total).copysign_(total)
    total, divisor = total.zero_(), torch.zeros_like(total)
    for entry, factor in zip(votes, weight, strict=True):
        agreeing = entry.mul_(sign).clamp_min_(0.0)  # an entry of 0 never agrees
        total.add_(agreeing)
        divisor.add_(agreeing.sign_(), alpha=factor)
    return total.div_(divisor.masked_fill_(divisor.abs() < NO_WEIGHT, 1.0)).mul_(sign)


def add_up(tensors: Sequence[Tensor]) -> Tensor:
    """Their sum, in order."""
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total
