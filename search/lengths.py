"""Weights of parents as the direction and the length of what they change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.geometry import Geometry
from search.groups import Group
from search.layout import Layout, Partition

# Changes that cancel would need weights without end: no more than so much of what orthogonal ones
# do is made up for.
_LEAST = 0.1
# Sums of squares below this share of the largest are the rounding of their differences.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """How long sums of the parents' changes (their differences to the base) are.

    A norm of 1 is the mean length of the parents' changes, in each group of blocks by itself.

    Args:
        grams: (groups, parents, parents) inner products of the changes within each group.
    """

    grams: NDArray[np.float64]

    @classmethod
    def alike(cls, groups: int, parents: int) -> Lengths:
        """Of changes that are equally long and orthogonal: what is assumed until they are known."""
        return cls(np.broadcast_to(np.eye(parents), (groups, parents, parents)))

    @classmethod
    def measured(
        cls, geometry: Geometry, layout: Layout, partition: Partition, groups: Sequence[Group]
    ) -> Lengths:
        """Of the models themselves.

        Args:
            geometry: of the models.
            layout: that was measured.
            partition: into the blocks that groups are of.
            groups: of blocks; where nobody differs from the base as if all did alike.
        """
        blocks = geometry.changes(layout, partition)
        grams = np.stack([blocks[sorted(group.shares)].sum(axis=0) for group in groups])
        longest = np.diagonal(grams, axis1=1, axis2=2).max(axis=1)
        still = longest <= _ROUNDING * longest.max()
        grams[still] = np.eye(grams.shape[1])
        return cls(grams)

    def weights(
        self, units: Sequence[Sequence[float]], norm: float, kept: Sequence[int]
    ) -> list[list[float]]:
        """(groups, parents) weights that make changes of a norm.

        Args:
            units: (groups, parents - 1) points of the unit cube that stand for shares.
            norm: length of the merged change, in mean lengths of the parents'.
            kept: parents that take part; the others have weight 0.
        """
        return [
            (norm * self._directed(group, shares(row), kept)).tolist()
            for group, row in enumerate(units)
        ]

    def split(
        self, weights: NDArray[np.float64], kept: Sequence[int]
    ) -> tuple[list[list[float]], float]:
        """(groups, parents - 1) points and the norm that come nearest to (groups, parents) weights.

        The norm is the mean over groups; negative weights count as none, as do those of parents
        that are not kept.
        """
        positive = np.zeros_like(weights)
        positive[:, list(kept)] = np.maximum(weights[:, list(kept)], 0.0)
        norms, units = [], []
        for group, row in enumerate(positive):
            total = float(row.sum())
            direction = row / total if total > 0 else np.full(len(row), 1.0 / len(row))
            units.append(points(direction.tolist()))
            unit = self._directed(group, direction, kept)
            norms.append(total / float(unit.sum()))
        return units, float(np.mean(norms))

    def _directed(
        self, group: int, direction: Sequence[float] | NDArray[np.float64], kept: Sequence[int]
    ) -> NDArray[np.float64]:
        """(parents,) weights in a direction whose change has norm 1."""
        gram, chosen = self.grams[group], list(kept)
        weight = np.zeros(len(gram))
        weight[chosen] = np.asarray(direction)[chosen]
        if not weight.any():
            weight[chosen] = 1.0
        mean = float(np.sqrt(np.maximum(np.diagonal(gram)[chosen], 0.0)).mean())
        length = math.sqrt(max(float(weight @ gram @ weight), 0.0))
        least = _LEAST * mean * float(np.linalg.norm(weight))
        return np.asarray(weight * (mean / max(length, least)))


def shares(units: Sequence[float]) -> list[float]:
    """(n,) shares that sum to 1, evenly spread where (n - 1,) points of [0, 1] are.

    Each parent takes its part of what those before it have left.
    """
    left, found = 1.0, []
    for after, unit in zip(range(len(units), 0, -1), units, strict=True):
        taken = left * (1.0 - (1.0 - unit) ** (1.0 / after))
        found.append(taken)
        left -= taken
    return [*found, left]


def points(given: Sequence[float]) -> list[float]:
    """Inverse of ``shares``."""
    left, found = 1.0, []
    for after, share in zip(range(len(given) - 1, 0, -1), given, strict=False):
        part = min(max(share / left, 0.0), 1.0) if left > 0 else 0.0
        found.append(1.0 - (1.0 - part) ** after)
        left -= share
    return found
