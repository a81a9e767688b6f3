"""Sparsity by chance: the masks of DARE and DELLA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from workers import fused
from workers.merge_method import Sources
from workers.noise import RANGE, Noise
from workers.task_vectors import Pass

_EXACT = 255  # steps of a rank that is kept in one byte


@dataclass(frozen=True, slots=True)
class Chosen:
    """Keeps each entry with one probability; what a low one keeps, a higher one keeps as well.

    Args:
        noise: keys of the tensor.
        offset: place of the first element in its tensor.
        limits: for each parent, the probability in units of 1/RANGE.
    """

    noise: Noise
    offset: int
    limits: tuple[int, ...]

    def survivors(self, parent: int, delta: Tensor, start: int) -> Tensor:
        if self.limits[parent] >= RANGE:
            return delta
        draws = self.noise.draws(parent, self.offset + start, delta.numel(), delta.device)
        return torch.where(draws < self.limits[parent], delta, 0.0)

    def kernel(self, count: int, *, vote: bool, normalize: bool) -> fused.Kernel:
        return fused.chosen(count, vote=vote, normalize=normalize)

    def passes(self, size: int) -> Sequence[Pass]:
        return [(0, size, [np.uint32(limit) for limit in self.limits], _keys(self))]

    def arrays(self) -> Sequence[Tensor]:
        return ()


@dataclass(frozen=True, slots=True)
class Ranked:
    """Keeps each entry with a probability that grows with its rank in its row.

    Args:
        noise: keys of the tensor.
        offset: place of the first element in its tensor.
        ranks: for each parent (n,) uint8, 0 for the smallest of a row and 255 for the largest.
        lows: for each parent, the probability at rank 0.
        slopes: for each parent, what one step of rank adds.
        unbiased: divide what is kept by its probability.
    """

    noise: Noise
    offset: int
    ranks: tuple[Tensor, ...] = field(repr=False)
    lows: tuple[float, ...]
    slopes: tuple[float, ...]
    unbiased: bool

    def survivors(self, parent: int, delta: Tensor, start: int) -> Tensor:
        ranks = self.ranks[parent][start : start + delta.numel()].to(delta.dtype)
        low, slope = (np.float32(x[parent]) for x in (self.lows, self.slopes))
        probability = ranks.mul_(float(slope)).add_(float(low))
        draws = self.noise.draws(parent, self.offset + start, delta.numel(), delta.device)
        kept = torch.where(draws.to(delta.dtype) / RANGE < probability, delta, 0.0)
        return kept.div_(probability) if self.unbiased else kept

    def kernel(self, count: int, *, vote: bool, normalize: bool) -> fused.Kernel:
        return fused.ranked(count, vote=vote, normalize=normalize, unbiased=self.unbiased)

    def passes(self, size: int) -> Sequence[Pass]:
        limits = [np.float32(value) for value in (*self.lows, *self.slopes)]
        return [(0, size, limits, _keys(self))]

    def arrays(self) -> Sequence[Tensor]:
        return self.ranks


def chosen(sources: Sources, density: Sequence[float]) -> Chosen:
    """Keep each entry with the probability ``density``, to a resolution of 1/65,536."""
    limits = tuple(min(RANGE, max(1, round(fraction * RANGE))) for fraction in density)
    return Chosen(_noise(sources), sources.start, limits)


def ranked(
    sources: Sources, density: Sequence[float], epsilon: Sequence[float], *, unbiased: bool
) -> Ranked:
    """Keep an entry with a probability between ``density - epsilon`` and ``density + epsilon``.

    Deep et al. 2024, arXiv:2406.11617, MAGPRUNE. A row is all that shares the first index; vectors
    are one row, a row of one element has the probability ``density``. An ``epsilon`` that would
    lead out of (0, 1) is reduced.

    Ranks are kept in a byte, rounded by chance so that the probability of an entry is exactly the
    paper's over all names of parents and tensors.
    """
    lows, slopes = [], []
    for fraction, width in zip(density, epsilon, strict=True):
        half = max(0.0, min(width, fraction - 1e-3, 1.0 - fraction - 1e-3))
        lows.append(fraction - half)
        slopes.append(2.0 * half / _EXACT)
    ranks = tuple(_ranks(sources, parent) for parent in range(len(density)))
    return Ranked(_noise(sources), sources.start, ranks, tuple(lows), tuple(slopes), unbiased)


def _keys(mask: Chosen | Ranked) -> Sequence[object]:
    keys = (mask.noise.place, *mask.noise.parents)
    return (mask.offset, *(tuple(np.uint32(word) for word in key) for key in keys))


def _noise(sources: Sources) -> Noise:
    return Noise.of(sources.seed, sources.name, sources.labels)


def _ranks(sources: Sources, parent: int) -> Tensor:
    """(numel,) uint8."""
    return sources.remember(("row ranks", parent), lambda: _rank_rows(sources, parent))


def _rank_rows(sources: Sources, parent: int) -> Tensor:
    magnitude = sources.delta(parent).abs_()
    rows = (
        magnitude.reshape(magnitude.shape[0], -1) if magnitude.ndim > 1 else magnitude.view(1, -1)
    )
    columns = rows.shape[1]
    ranks = torch.empty(rows.shape, dtype=torch.uint8, device=rows.device)
    # Not the seed's: ranks are remembered for all seeds.
    noise = Noise.of(0, f"rank of {sources.name}", sources.labels)
    for number, row in enumerate(rows):
        place = torch.empty(columns, dtype=torch.float32, device=row.device)
        order = row.argsort(stable=True)
        place[order] = torch.linspace(0, _EXACT, columns, device=row.device)
        if columns == 1:
            place.fill_(_EXACT / 2)
        draws = noise.draws(parent, number * columns, columns, row.device)
        ranks[number] = place.add_(draws.to(torch.float32) / RANGE).clamp_(0, _EXACT).floor_()
    return ranks.view(-1)
