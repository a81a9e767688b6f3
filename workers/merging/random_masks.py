"""Sparsity by chance: the masks of DARE and DELLA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from workers.kernels import fused
from workers.kernels.fused import LEVEL_BITS, PARENTS_PER_BYTE
from workers.kernels.noise import RANGE, Noise
from workers.merging.merge_method import Sources

# Steps between the levels that ranks are rounded to, which take two bits.
_STEPS = (1 << LEVEL_BITS) - 1
# Tensors of fewer elements keep exact ranks: four bytes each cost nothing there, and no loop needs
# levels.
_ROUNDED = 1 << 17
# Elements whose ranks are found at once, about.
_BLOCK = 1 << 18


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

    def survivors(self, parent: int, delta: Tensor, start: int, factor: float = 1.0) -> Tensor:
        if self.below[parent] >= RANGE:
            return delta * factor
        draws = self.noise.draws(parent, self.offset + start, delta.numel(), delta.device)
        return torch.where(draws < self.below[parent], delta, 0.0).mul_(factor)

    def loop(self, count: int, *, vote: bool, normalize: bool) -> fused.Loop:
        return fused.chosen(count, vote=vote, normalize=normalize)

    def scalars(
        self,
        factors: Sequence[float],
        size: int,  # noqa: ARG002 - all of it
    ) -> tuple[Sequence[object], Sequence[object], Sequence[object]]:
        scaled = fused.rounded(factors)
        return scaled, [_limit(below) for below in self.below], _keys(self)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Keeps each entry with a probability that grows with its rank in its row.

    Args:
        noise: keys of the tensor.
        offset: place of the first element in its tensor.
        ranks: of a small tensor, for each parent (n,) float32, from 0 for the smallest entry of a
            row to 1 for the largest; or of a large one levels, as ``fused.ranked`` reads them.
        lows: for each parent, the probability at rank 0.
        slopes: for each parent, that at rank 1 less the former.
        unbiased: divide what is kept by its probability.
    """

    noise: Noise
    offset: int
    ranks: tuple[Tensor, ...] = field(repr=False)
    lows: tuple[float, ...]
    slopes: tuple[float, ...]
    unbiased: bool

    def survivors(self, parent: int, delta: Tensor, start: int, factor: float = 1.0) -> Tensor:
        probability = self._probability(parent, start, delta.numel())
        draws = self.noise.draws(parent, self.offset + start, delta.numel(), delta.device)
        kept = torch.where(draws < _units(probability), delta, 0.0)
        if not self.unbiased:
            return kept.mul_(factor)
        return kept.mul_((factor / probability).to(delta.dtype))

    def loop(self, count: int, *, vote: bool, normalize: bool) -> fused.Loop | None:
        if not self._by_level:
            return None
        return fused.ranked(count, vote=vote, normalize=normalize)

    def scalars(
        self,
        factors: Sequence[float],
        size: int,  # noqa: ARG002 - all of it
    ) -> tuple[Sequence[object], Sequence[object], Sequence[object]]:
        levels = [self._levels(parent) for parent in range(len(factors))]
        scaled = [
            tuple(
                fused.rounded(factor / share if self.unbiased else factor for share in row.tolist())
            )
            for factor, row in zip(factors, levels, strict=True)
        ]
        limits = [tuple(_limit(int(below)) for below in _units(row).tolist()) for row in levels]
        return scaled, limits, (*_keys(self), *(fused.view(levels) for levels in self.ranks))

    @property
    def _by_level(self) -> bool:
        return self.ranks[0].dtype == torch.uint8

    def _probability(self, parent: int, start: int, count: int) -> Tensor:
        """(count,) float64, of entries from ``start`` on."""
        if self._by_level:
            byte, place = divmod(parent, PARENTS_PER_BYTE)
            first = start // 2
            pairs = self.ranks[byte][first : (start + count + 1) // 2].int()
            pairs >>= place * 2 * LEVEL_BITS
            both = torch.stack((pairs, pairs >> LEVEL_BITS), dim=1).view(-1) & _STEPS
            skipped = start - 2 * first
            return self._levels(parent).to(pairs.device)[both[skipped : skipped + count]]
        return self._of_rank(parent, self.ranks[parent][start : start + count].double())

    def _levels(self, parent: int) -> Tensor:
        return self._of_rank(parent, torch.arange(_STEPS + 1, dtype=torch.float64) / _STEPS)

    def _of_rank(self, parent: int, rank: Tensor) -> Tensor:
        return rank * self.slopes[parent] + self.lows[parent]


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

    In large tensors ranks are rounded by chance to four levels, so that the probability of an entry
    is exactly the paper's over all names of parents and tensors, as is the mean of many entries.
    """
    lows, slopes = [], []
    for fraction, width in zip(density, epsilon, strict=True):
        half = max(0.0, min(width, fraction - 1e-3, 1.0 - fraction - 1e-3))
        lows.append(fraction - half)
        slopes.append(2.0 * half)
    count = len(density)
    if sources.base.numel() < _ROUNDED:
        ranks = [
            sources.remember(("row ranks", parent), partial(_row_ranks, sources, parent))
            for parent in range(count)
        ]
    else:
        ranks = [
            sources.remember(("row levels", first), partial(_row_levels, sources, first))
            for first in range(0, count, PARENTS_PER_BYTE)
        ]
    return Ranked(
        _noise(sources), sources.start, tuple(ranks), tuple(lows), tuple(slopes), unbiased
    )


def _units(probability: Tensor) -> Tensor:
    """What draws must be below: whole numbers, 1 to RANGE."""
    return (probability * RANGE).round_().clamp_(1, RANGE)


def _limit(below: int) -> np.uint32:
    """The largest 32 bits whose upper half is below."""
    return np.uint32((below << 16) - 1)


def _keys(mask: Chosen | Ranked) -> Sequence[object]:
    keys = (mask.noise.place, *mask.noise.parents)
    return (mask.offset, *(tuple(np.uint32(word) for word in key) for key in keys))


def _noise(sources: Sources) -> Noise:
    return Noise.of(sources.seed, sources.name, sources.labels)


def _rows(sources: Sources) -> int:
    shape = sources.base.shape
    return shape[0] if sources.base.numel() and len(shape) > 1 else 1


def _row_ranks(sources: Sources, parent: int) -> Tensor:
    """(numel,) float32 from 0 to 1, or 1/2 in rows of one element."""
    rows = sources.delta(parent).abs_().view(_rows(sources), -1)
    columns = rows.shape[1]
    if columns < 2:
        return torch.full((sources.base.numel(),), 0.5, device=rows.device)
    steps = torch.linspace(0, 1, columns, device=rows.device)
    order = rows.argsort(dim=1, stable=True)
    ranks = torch.empty_like(rows, dtype=torch.float32)
    return ranks.scatter_(1, order, steps.expand_as(rows)).view(-1)


def _row_levels(sources: Sources, first: int) -> Tensor:
    """(numel / 2,) bytes of the levels of parent ``first`` and of the next where there is one."""
    # Late: see fused._compile.
    from workers.kernels.counting import magnitude_keys, write_levels

    size, rows = sources.base.numel(), _rows(sources)
    columns = size // rows
    packed = np.zeros((size + 1) // 2, np.uint8)
    # Not the seed's: levels are remembered for all seeds.
    noise = Noise.of(0, f"rank of {sources.name}", sources.labels)
    place, *owns = (tuple(map(np.uint32, key)) for key in (noise.place, *noise.parents))
    step = max(1, _BLOCK // columns)
    for parent in range(first, min(first + PARENTS_PER_BYTE, len(sources.parents))):
        shift = (parent - first) * 2 * LEVEL_BITS
        for row in range(0, rows, step):
            part = slice(row * columns, (row + step) * columns)
            base, theirs = (
                fused.view(fused.readable(tensor.reshape(-1)[part]))
                for tensor in (sources.base, sources.parents[parent])
            )
            keys = np.empty((base.size // columns, columns), np.uint64)
            magnitude_keys(base, theirs, keys)
            keys.sort(axis=1)
            write_levels(keys, row * columns, _STEPS, place, owns[parent], packed, shift)
    return torch.from_numpy(packed).to(sources.base.device)
