"""Sparsity by chance: the masks of DARE and DELLA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from workers.kernels import fused
from workers.kernels.noise import RANGE, Noise
from workers.merging.merge_method import Sources

_STEPS = 255  # of a rank that is kept in one byte
# Tensors of fewer elements keep exact ranks: four bytes each cost nothing there.
_ROUNDED = 1 << 17


@dataclass(frozen=True, slots=True)
class Chosen:
    """Keeps each entry with one probability; what a low one keeps, a higher one keeps as well.

    Args:
        noise: keys of the tensor.
        offset: place of the first element in its tensor.
        below: for each parent, the probability in units of 1/RANGE.
    """

    noise: Noise
    offset: int
    below: tuple[int, ...]

    def survivors(self, parent: int, delta: Tensor, start: int) -> Tensor:
        if self.below[parent] >= RANGE:
            return delta
        draws = self.noise.draws(parent, self.offset + start, delta.numel(), delta.device)
        return torch.where(draws < self.below[parent], delta, 0.0)

    def kernel(self, count: int, *, vote: bool, normalize: bool) -> fused.Kernel:
        return fused.chosen(count, vote=vote, normalize=normalize)

    def limits(self, size: int) -> tuple[Sequence[object], Sequence[object]]:  # noqa: ARG002 - all of it
        return [np.uint32(limit) for limit in self.below], _keys(self)

    def arrays(self) -> Sequence[Tensor]:
        return ()


@dataclass(frozen=True, slots=True)
class Ranked:
    """Keeps each entry with a probability that grows with its rank in its row.

    Args:
        noise: keys of the tensor.
        offset: place of the first element in its tensor.
        ranks: for each parent (n,) uint8 or float32, 0 for the smallest of a row and 255 for the
            largest.
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
        probability = ranks.mul(float(slope)).add_(float(low))
        draws = self.noise.draws(parent, self.offset + start, delta.numel(), delta.device)
        kept = torch.where(draws.to(delta.dtype) / RANGE < probability, delta, 0.0)
        return kept.div_(probability) if self.unbiased else kept

    def kernel(self, count: int, *, vote: bool, normalize: bool) -> fused.Kernel:
        return fused.ranked(count, vote=vote, normalize=normalize, unbiased=self.unbiased)

    def limits(self, size: int) -> tuple[Sequence[object], Sequence[object]]:  # noqa: ARG002 - all of it
        return [np.float32(value) for value in (*self.lows, *self.slopes)], _keys(self)

    def arrays(self) -> Sequence[Tensor]:
        return self.ranks


def chosen(sources: Sources, density: Sequence[float]) -> Chosen:
    """Keep each entry with the probability ``density``, to a resolution of 1/65,536."""
    below = tuple(min(RANGE, max(1, round(fraction * RANGE))) for fraction in density)
    return Chosen(_noise(sources), sources.start, below)


def ranked(
    sources: Sources, density: Sequence[float], epsilon: Sequence[float], *, unbiased: bool
) -> Ranked:
    """Keep an entry with a probability between ``density - epsilon`` and ``density + epsilon``.

    Deep et al. 2024, arXiv:2406.11617, MAGPRUNE. A row is all that shares the first index; vectors
    are one row, a row of one element has the probability ``density``. An ``epsilon`` that would
    lead out of (0, 1) is reduced.

    In large tensors ranks are kept in a byte, rounded by chance so that the probability of an entry
    is exactly the paper's over all names of parents and tensors.
    """
    lows, slopes = [], []
    for fraction, width in zip(density, epsilon, strict=True):
        half = max(0.0, min(width, fraction - 1e-3, 1.0 - fraction - 1e-3))
        lows.append(fraction - half)
        slopes.append(2.0 * half / _STEPS)
    ranks = tuple(_ranks(sources, parent) for parent in range(len(density)))
    return Ranked(_noise(sources), sources.start, ranks, tuple(lows), tuple(slopes), unbiased)


def _keys(mask: Chosen | Ranked) -> Sequence[object]:
    keys = (mask.noise.place, *mask.noise.parents)
    return (mask.offset, *(tuple(np.uint32(word) for word in key) for key in keys))


def _noise(sources: Sources) -> Noise:
    return Noise.of(sources.seed, sources.name, sources.labels)


def _ranks(sources: Sources, parent: int) -> Tensor:
    """(numel,) uint8, or float32 for a small tensor."""
    return sources.remember(("row ranks", parent), lambda: _rank_rows(sources, parent))


def _rank_rows(sources: Sources, parent: int) -> Tensor:
    size = sources.base.numel()
    magnitude = sources.delta(parent).abs_()
    rows = magnitude.view(magnitude.shape[0] if size and magnitude.ndim > 1 else 1, -1)
    columns = rows.shape[1]
    if columns < 2:
        return torch.full((size,), _STEPS / 2, device=rows.device)
    steps = torch.linspace(0, _STEPS, columns, device=rows.device)
    if size < _ROUNDED:
        return (
            torch.empty_like(rows, dtype=torch.float32)
            .scatter_(1, rows.argsort(dim=1, stable=True), steps.expand_as(rows))
            .view(-1)
        )
    # Not the seed's: ranks are remembered for all seeds.
    noise = Noise.of(0, f"rank of {sources.name}", sources.labels)
    ranks = torch.empty(rows.shape, dtype=torch.uint8, device=rows.device)
    for number, row in enumerate(rows):
        draws = noise.draws(parent, number * columns, columns, row.device)
        place = torch.empty_like(steps)
        place[row.argsort(stable=True)] = steps
        ranks[number] = place.add_(draws.to(torch.float32) / RANGE).clamp_(0, _STEPS)
    return ranks.view(-1)
