"""Which entries of a task vector are largest: for any number of them, without sorting again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.kernels import fused

# Smaller tensors are sorted. The magnitudes of larger ones are counted; of these about so many
# ranks are kept, and the count that is asked for is rounded to them.
_EXACT = 1 << 16
_PLACES = 1 << 13
# Threads that count at the same time, each in tables of 25 MB.
_COUNTERS = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class Largest:
    """Tells the largest magnitudes of a tensor; of equal ones those at the lowest flat indices.

    Args:
        threshold: greater magnitudes are among them.
        floor: those greater than this count as equal to it, and are among them ...
        cutoff: at flat indices below this.
        sum: of all these magnitudes.
    """

    threshold: float
    floor: float
    cutoff: int
    sum: float

    def above(self, start: int) -> float:
        """What magnitudes must exceed from the flat index ``start`` up to the next cutoff."""
        return self.threshold if start >= self.cutoff else self.floor


NONE = Largest(float("inf"), float("inf"), 0, 0.0)
# Of any tensor; nobody has summed it up.
ALL = Largest(-1.0, -1.0, 0, float("nan"))


@dataclass(frozen=True, slots=True)
class Ranking:
    """The magnitudes of a tensor at some ranks.

    Args:
        ranks: counted from 1 at the largest, ascending; the last is the size of the tensor.
        thresholds: for each rank, the magnitudes above are among those down to this rank.
        floors: and those above are, but at flat indices below the cutoff only.
        cutoffs: the flat index behind the element at the rank, or 0 where the threshold tells all.
        sums: of all magnitudes down to each rank, float64.
    """

    ranks: NDArray[np.unsignedinteger]
    thresholds: NDArray[np.floating]
    floors: NDArray[np.floating]
    cutoffs: NDArray[np.unsignedinteger]
    sums: NDArray[np.float64]

    def largest(self, count: int) -> Largest:
        """The ``count`` largest, or for large tensors the nearest count that is known.

        The count is off by at most one in 8,192 of the entries.
        """
        if count <= 0:
            return NONE
        # With a count of another dtype NumPy would convert all ranks first.
        place = np.searchsorted(self.ranks, self.ranks.dtype.type(count))
        after = min(int(place), len(self.ranks) - 1)
        before = max(after - 1, 0)
        nearer = count - int(self.ranks[before]) < int(self.ranks[after]) - count
        place = before if nearer else after
        return Largest(
            float(self.thresholds[place]),
            float(self.floors[place]),
            int(self.cutoffs[place]),
            float(self.sums[place]),
        )

    @property
    def total(self) -> float:
        """Sum of all magnitudes."""
        return float(self.sums[-1])


def rank(base: Tensor, parent: Tensor) -> Ranking:
    """Find the order of the magnitudes of a task vector, once.

    Args:
        base: (n,).
        parent: (n,); differences are taken in float32, of few elements in float64 where it is that.
    """
    if base.numel() > _EXACT:
        with _COUNTERS:
            return _counted(*(fused.view(fused.readable(tensor)) for tensor in (base, parent)))
    wide = torch.promote_types(base.dtype, torch.float32)
    return _sorted((parent.to(wide) - base.to(wide)).abs_().cpu().numpy())


def _sorted(values: NDArray[np.floating]) -> Ranking:
    order = np.argsort(-values, kind="stable")
    thresholds = values[order]
    return Ranking(
        ranks=np.arange(1, values.size + 1, dtype=np.uint32),
        thresholds=thresholds,
        floors=np.nextafter(thresholds, thresholds.dtype.type(-1)),
        cutoffs=(order + 1).astype(np.uint32),
        sums=np.cumsum(thresholds, dtype=np.float64),
    )


def _counted(base: NDArray[np.generic], parent: NDArray[np.generic]) -> Ranking:
    """Count magnitudes by their leading bits, those that share them as equal ones.

    Two passes: the second finds places within what too many have in common, as differences of
    numbers in bfloat16 do.
    """
    # Late: see fused._compile.
    from workers.kernels.counting import BINS, SHIFT, count, find

    counts, sums = np.zeros(BINS, np.uint32), np.zeros(BINS)
    count(base, parent, counts, sums)
    bins = np.flatnonzero(counts)[::-1]
    inside, total = counts[bins].astype(np.int64), sums[bins]
    del counts, sums
    upto, sums_upto = np.cumsum(inside), np.cumsum(total)
    spacing = base.size // _PLACES
    ends = np.unique(np.searchsorted(upto, np.arange(spacing, base.size + spacing, spacing)))
    ends = ends[ends < bins.size]
    edges = (bins.astype(np.uint32) << SHIFT).view(np.float32)
    floors = np.nextafter(edges, np.float32(-1))
    tops = (((bins.astype(np.uint32) + 1) << SHIFT) - 1).view(np.float32)

    crowded = np.flatnonzero(inside > spacing)
    wanted = [np.arange(spacing, inside[place], spacing) for place in crowded]
    starts = np.cumsum([0, *map(len, wanted)])
    within = np.concatenate(wanted) if wanted else np.empty(0, np.int64)
    found = np.zeros(within.size, np.int64)
    if within.size:
        slots = np.full(BINS, -1, np.int32)
        slots[bins[crowded]] = np.arange(crowded.size)
        find(base, parent, slots, np.zeros(crowded.size, np.int64), within, starts.copy(), found)
    owner = np.repeat(crowded, np.diff(starts))
    share = within / inside[owner]

    ranks = np.concatenate((upto[ends], upto[owner] - inside[owner] + within))
    order = np.argsort(ranks, kind="stable")
    small = np.uint32 if base.size < 1 << 32 else np.uint64
    return Ranking(
        ranks=ranks[order].astype(small),
        thresholds=np.concatenate((floors[ends], tops[owner]))[order],
        floors=np.concatenate((floors[ends], floors[owner]))[order],
        cutoffs=np.concatenate((np.zeros(ends.size, np.int64), found + 1))[order].astype(small),
        sums=np.concatenate((sums_upto[ends], sums_upto[owner] - total[owner] * (1.0 - share)))[
            order
        ],
    )


def spans(start: int, stop: int, sets: tuple[Largest, ...]) -> Iterator[tuple[int, int]]:
    """Cut a range of flat indices where the rule for equal magnitudes changes."""
    inside = {chosen.cutoff for chosen in sets if start < chosen.cutoff < stop}
    cuts = [start, *sorted(inside), stop]
    yield from pairwise(cuts)
