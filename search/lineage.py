"""Descendants of the parents as coefficient tables: every merge of merges is a merge of parents."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from search.geometry import Geometry
from search.layout import Segments
from search.recipe import Recipe
from search.spec import BASE

# (cells, k + 1) float64: what each cell of the flattened model takes of the base, then of each
# parent.
Table = NDArray[np.float64]

# Below this sine of the angle SLERP is linear interpolation (the authors' constant).
_STRAIGHT = 1e-6


class Lineage:
    """Models that descend from base and parents by SLERP, without touching a weight.

    SLERP multiplies each of two models by a scalar that follows from their norms and their inner
    product. Both follow from the coefficients and the parents' Gram matrices, so tables are as
    exact as the vectors that they stand for.

    Args:
        geometry: of base and parents.
        parents: their names, in the order of the geometry.
        cells: at most so many cells are kept, as even as the geometry's boundaries allow. It bounds
            the number of segments of every descendant, and so the size of its recipe.
    """

    def __init__(self, geometry: Geometry, parents: tuple[str, ...], *, cells: int) -> None:
        if geometry.gram.shape[1] != len(parents) + 1:
            raise ValueError(
                f"the geometry is of {geometry.gram.shape[1] - 1} parents, not of {len(parents)}"
            )
        starts = _even(geometry.boundaries, cells)
        self._models = (BASE, *parents)
        self._gram = np.add.reduceat(geometry.gram, starts, axis=0)
        ends = geometry.boundaries[np.append(starts, len(geometry.boundaries) - 1)]
        self.boundaries = tuple(int(end) for end in ends)

    @property
    def cells(self) -> int:
        """Number of places at which a crossover may split, the start of the model included."""
        return len(self.boundaries) - 1

    def founder(self, parent: int) -> Table:
        """A parent itself."""
        table = np.zeros((self.cells, len(self._models)))
        table[:, parent + 1] = 1.0
        return table

    def crossover(self, x: Table, y: Table, *, split: int, ratio: float) -> Table:
        """SLERP from x to y by ``ratio`` before a cell, by ``1 - ratio`` from there on.

        Abrantes et al. 2025 (arXiv:2508.16204), eq. 2. The angle is that between the whole models
        and used on both sides, as in the authors' code; the paper's formula reads as one angle per
        side.
        """
        angle = self._angle(x, y)
        before, after = _slerp_weights(angle, ratio), _slerp_weights(angle, 1.0 - ratio)
        return np.concatenate(
            (
                before[0] * x[:split] + before[1] * y[:split],
                after[0] * x[split:] + after[1] * y[split:],
            )
        )

    def recipe(self, table: Table) -> Recipe:
        """The table as a ``linear`` recipe, cells that agree with their neighbours merged.

        The base takes part under its own name where it has a coefficient.
        """
        changes = np.flatnonzero((table[1:] != table[:-1]).any(axis=1)) + 1
        rows = [0, *changes.tolist()]
        edges = tuple(self.boundaries[row] for row in [*rows, self.cells])
        first = 0 if table[:, 0].any() else 1
        return Recipe(
            method="linear",
            parents=self._models[first:],
            partition=Segments(boundaries=edges),
            blocks=tuple(f"{start}:{stop}" for start, stop in pairwise(edges)),
            parameters={
                "weight": tuple(tuple(table[row, first:].tolist()) for row in rows),
                "normalize": False,
            },
        )

    def table(self, recipe: Recipe) -> Table | None:
        """The table of a ``linear`` recipe, or None when its blocks are not made of cells."""
        weight = recipe.parameters.get("weight")
        if recipe.method != "linear" or not isinstance(weight, tuple):
            return None
        rows = np.zeros((len(weight), len(self._models)))
        columns = [self._models.index(name) for name in recipe.parents]
        rows[:, columns] = weight
        if recipe.parameters.get("normalize"):
            rows /= rows.sum(axis=1, keepdims=True)
        if (rows == rows[0]).all():
            return np.repeat(rows[:1], self.cells, axis=0)
        return self._spread(rows, recipe)

    def _spread(self, rows: Table, recipe: Recipe) -> Table | None:
        edges = recipe.partition.boundaries if isinstance(recipe.partition, Segments) else ()
        if not set(edges) <= set(self.boundaries) or edges[:1] + edges[-1:] != (
            self.boundaries[0],
            self.boundaries[-1],
        ):
            return None
        cells_per_row = np.diff([self.boundaries.index(edge) for edge in edges])
        return np.repeat(rows, cells_per_row, axis=0)

    def _angle(self, x: Table, y: Table) -> float:
        norms = math.sqrt(max(0.0, self._inner(x, x) * self._inner(y, y)))
        if norms == 0:
            return 0.0
        return math.acos(min(1.0, max(-1.0, self._inner(x, y) / norms)))

    def _inner(self, x: Table, y: Table) -> float:
        return float(np.einsum("ci,cij,cj->", x, self._gram, y))


def _slerp_weights(angle: float, ratio: float) -> tuple[float, float]:
    """What SLERP by ``ratio`` multiplies the two ends by; ``angle`` in radians."""
    sine = math.sin(angle)
    if sine <= _STRAIGHT:
        return 1.0 - ratio, ratio
    return math.sin((1.0 - ratio) * angle) / sine, math.sin(ratio * angle) / sine


def _even(boundaries: NDArray[np.int64], cells: int) -> NDArray[np.intp]:
    """Indices of at most ``cells`` boundaries (the last one left out) at about equal distances."""
    inner = boundaries[:-1]
    if len(inner) <= cells:
        return np.arange(len(inner))
    wanted = boundaries[0] + (boundaries[-1] - boundaries[0]) * np.arange(cells) / cells
    right = np.searchsorted(inner, wanted).clip(1, len(inner) - 1)
    nearer_left = wanted - inner[right - 1] <= inner[right] - wanted
    return np.unique(np.where(nearer_left, right - 1, right))
