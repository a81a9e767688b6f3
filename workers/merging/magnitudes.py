"""Sparsity by magnitude: the trim of TIES, the band of breadcrumbs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.kernels import fused
from workers.merging.merge_method import Sources
from workers.merging.ranking import ALL, NONE, Largest, Ranking, rank, spans
from workers.merging.task_vectors import NO_NORM


@dataclass(frozen=True, slots=True)
class Band:
    """Keeps, for each parent, the largest entries of its task vector but for the very largest.

    Args:
        kept: for each parent, the largest entries.
        dropped: for each parent, those among them that are not kept after all.
    """

    kept: tuple[Largest, ...]
    dropped: tuple[Largest, ...]

    def survivors(self, parent: int, delta: Tensor, start: int, factor: float = 1.0) -> Tensor:
        magnitude = delta.abs()
        kept = torch.zeros_like(delta)
        bounds = (self.kept[parent], self.dropped[parent])
        for low, high in spans(start, start + delta.numel(), bounds):
            part = slice(low - start, high - start)
            least, most = (bound.above(low) for bound in bounds)
            inside = (magnitude[part] > least) & (magnitude[part] <= most)
            kept[part] = torch.where(inside, delta[part], 0.0)
        return kept.mul_(factor)

    def loop(self, count: int, *, vote: bool, normalize: bool) -> fused.Loop:
        make = fused.top if self._open else fused.band
        return make(count, vote=vote, normalize=normalize)

    def scalars(
        self, factors: Sequence[float], size: int
    ) -> tuple[Sequence[object], Sequence[object], Sequence[object]]:
        sets = self.kept if self._open else (*self.kept, *self.dropped)
        parts = list(spans(0, size, sets))
        rows = [[bound.above(low) for bound in sets] for low, _ in parts]
        cuts = [low for low, _ in parts] + [size]
        limits = np.array(rows, np.float32), np.array(cuts, np.int64)
        return fused.rounded(factors), limits, ()

    @property
    def _open(self) -> bool:
        return all(bound is NONE for bound in self.dropped)


def band(sources: Sources, density: Sequence[float], gamma: Sequence[float] | None = None) -> Band:
    """The band between the largest ``gamma`` and what makes ``density`` of the entries below it.

    Counts as mergekit does: floor(density * n) entries are kept, the floor(gamma * n) largest are
    dropped, of these fewer where there are not enough others. Of equal magnitudes the lowest flat
    indices count as larger. Without ``gamma`` at least one entry is kept; a band that is narrower
    than one entry is empty, as in mergekit.
    """
    size = sources.base.numel()
    fewest = 1 if gamma is None else 0
    kept, dropped = [], []
    for parent, fraction in enumerate(density):
        inside = min(size, max(fewest, int(fraction * size)))
        outside = min(int(gamma[parent] * size), size - inside) if gamma is not None else 0
        if inside == size:
            kept.append(ALL)
            dropped.append(NONE)
            continue
        ranks = ranking(sources, parent)
        kept.append(ranks.largest(outside + inside))
        dropped.append(ranks.largest(outside))
    return Band(tuple(kept), tuple(dropped))


def ranking(sources: Sources, parent: int) -> Ranking:
    """The magnitudes of a task vector by rank: found once for these models, for every density."""
    return sources.remember(
        ("ranking", parent),
        lambda: rank(sources.base.reshape(-1), sources.parents[parent].reshape(-1)),
    )


def band_scale(sources: Sources, chosen: Band, parent: int) -> float:
    """What gives a parent's band the L1 norm of its whole task vector; costs no pass."""
    kept, dropped = chosen.kept[parent], chosen.dropped[parent]
    if kept is ALL:
        return 1.0
    norm = kept.sum - dropped.sum
    return ranking(sources, parent).total / norm if norm > NO_NORM else 1.0
