"""Which entries of a task vector are largest: for any number of them, without sorting again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Of larger tensors every 256th rank is kept, but no fewer than this; the count that is asked for is
# rounded to these.
_EXACT = 1 << 16
_SPACING = 256
_PLACES = 1 << 13
# Elements that are sorted at once, about; and how many tell where to cut.
_BAND = 1 << 20
_SAMPLE = 1 << 16


@dataclass(frozen=True, slots=True)
class Largest:
    """Tells the largest magnitudes of a tensor; of equal ones those at the lowest flat indices.

    Args:
        threshold: greater magnitudes are among them.
        cutoff: equal ones are at flat indices below this.
    """

    threshold: float
    cutoff: int

    def above(self, start: int, dtype: torch.dtype) -> float:
        """What magnitudes must exceed from the flat index ``start`` up to the next cutoff."""
        if start >= self.cutoff:
            return self.threshold
        exact = np.float64 if dtype == torch.float64 else np.float32
        return float(np.nextafter(exact(self.threshold), exact(-1.0)))


NONE = Largest(float("inf"), 0)
ALL = Largest(-1.0, 0)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The magnitudes of a tensor at some ranks.

    Args:
        size: elements of the tensor.
        thresholds: magnitude at each rank, from the largest down.
        cutoffs: flat index behind the element at each rank.
        sums: of all magnitudes down to each rank, float64.
    """

    size: int
    thresholds: NDArray[np.floating]
    cutoffs: NDArray[np.unsignedinteger]
    sums: NDArray[np.float64]

    def largest(self, count: int) -> Largest:
        """The ``count`` largest, or for large tensors the nearest count that is known.

        The count is off by at most half the distance of the ranks: one in 16,384 of the entries.
        """
        if count <= 0:
            return NONE
        if count >= self.size:
            return ALL
        places = len(self.thresholds)
        place = max(1, round(count * places / self.size)) - 1
        return Largest(float(self.thresholds[place]), int(self.cutoffs[place]))

    def sum(self, chosen: Largest) -> float:
        """Sum of the magnitudes that ``largest`` has chosen."""
        if chosen is NONE:
            return 0.0
        if chosen is ALL:
            return float(self.sums[-1])
        # Thresholds fall with the rank, cutoffs rise among equal ones.
        equal = np.flatnonzero(self.thresholds == chosen.threshold)
        return float(self.sums[equal[np.searchsorted(self.cutoffs[equal], chosen.cutoff)]])


def rank(magnitudes: Tensor) -> Ranking:
    """Sort (n,) magnitudes once.

    A large tensor is sorted in bands of magnitude, one after the other, so that little more than a
    band is in memory beside the magnitudes. What is kept are 16 bytes for each rank.
    """
    values = magnitudes.cpu().numpy()
    ranks = _ranks(values.size)
    places, sums = [], []
    start, total = 0, 0.0
    for band in _bands(values):
        inside = ranks[(ranks > start) & (ranks <= start + band.size)] - start - 1
        order = _descending(values, band)
        running = np.cumsum(values[order], dtype=np.float64) + total
        places.append(order[inside])
        sums.append(running[inside])
        start, total = start + band.size, float(running[-1])
    order = np.concatenate(places) if places else np.empty(0, np.int64)
    kept = np.concatenate(sums) if sums else np.empty(0)
    small = np.uint32 if values.size < 1 << 32 else np.uint64
    return Ranking(values.size, values[order], (order + 1).astype(small), kept)


def _bands(values: NDArray[np.floating]) -> Iterator[NDArray[np.intp]]:
    """Flat indices, ascending, of ever smaller magnitudes; equal ones are in one band."""
    if values.size <= _BAND:
        if values.size:
            yield np.arange(values.size)
        return
    sample = np.sort(values[:: values.size // _SAMPLE])
    cuts = np.unique(
        sample[np.linspace(0, sample.size - 1, values.size // _BAND + 2)[1:-1].astype(int)]
    )
    bounds = [np.inf, *cuts[::-1].tolist(), -1.0]
    for high, low in pairwise(bounds):
        band = np.flatnonzero((values <= high) & (values > low))
        if band.size:
            yield band


def _descending(values: NDArray[np.floating], band: NDArray[np.intp]) -> NDArray[np.intp]:
    """A band's flat indices by magnitude, the largest first; of equal ones the lowest first."""
    chosen = values[band]
    if values.dtype != np.float32 or band.size >= 1 << 32:
        return band[np.argsort(-chosen, kind="stable")]
    # Magnitudes order like their bits. One sort of one number for each, which NumPy has vectorized.
    keys = (~chosen.view(np.uint32)).astype(np.uint64) << np.uint64(32)
    keys |= np.arange(band.size, dtype=np.uint32)
    keys.sort()
    return band[(keys & np.uint64(0xFFFFFFFF)).astype(np.intp)]


def _ranks(size: int) -> NDArray[np.int64]:
    """Ranks that are kept: all of a small tensor's, evenly spaced ones of a large one's."""
    places = size if size <= _EXACT else max(_PLACES, size // _SPACING)
    return np.round(np.arange(1, places + 1) * (size / places)).astype(np.int64)


def spans(start: int, stop: int, sets: tuple[Largest, ...]) -> Iterator[tuple[int, int]]:
    """Cut a range of flat indices where the rule for equal magnitudes changes."""
    inside = {chosen.cutoff for chosen in sets if start < chosen.cutoff < stop}
    cuts = [start, *sorted(inside), stop]
    yield from pairwise(cuts)
