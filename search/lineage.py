"""Descendants of the parents as coefficient tables: every merge of merges is a merge of parents."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from search.crossover import Crossing
from search.geometry import Geometry
from search.layout import Segments
from search.recipe import Recipe
from search.spec import BASE

# (cells, k + 1) float64: what each cell of the flattened model takes of the base, then of each
# parent.
Table = NDArray[np.float64]

# Coefficients that are nearer differ by rounding.
_ROUNDING = 1e-14


class Lineage:
    """Models that descend from base and parents by SLERP, without touching a weight.

    SLERP multiplies each of two models by a scalar that follows from their norms and their inner
    product. Both follow from the coefficients and the parents' Gram matrices, so tables are as
    exact as the vectors that they stand for, after any number of generations.

    Args:
        geometry: of base and parents.
        parents: their names, in the order of the geometry.
        starts: indices of the geometry's boundaries at which a cell starts, from 0; all of them
            when None. Cells bound the number of segments of every descendant, and so the size of
            its recipe.
    """

    def __init__(
        self,
        geometry: Geometry,
        parents: tuple[str, ...],
        starts: NDArray[np.intp] | None = None,
    ) -> None:
        if geometry.gram.shape[1] != len(parents) + 1:
            raise ValueError(
                f"the geometry is of {geometry.gram.shape[1] - 1} parents, not of {len(parents)}"
            )
        if starts is None:
            starts = np.arange(len(geometry.gram))
        self._models = (BASE, *parents)
        self._gram = np.add.reduceat(geometry.gram, starts, axis=0)
        ends = geometry.boundaries[np.append(starts, len(geometry.boundaries) - 1)]
        self.boundaries = tuple(int(end) for end in ends)

    @property
    def cells(self) -> int:
        """Number of pieces that crossovers put together."""
        return len(self.boundaries) - 1

    def founder(self, parent: int) -> Table:
        """A parent itself."""
        table = np.zeros((self.cells, len(self._models)))
        table[:, parent + 1] = 1.0
        return table

    def crossover(self, x: Table, y: Table, crossing: Crossing) -> Table:
        """The child of two tables."""
        first, second = crossing.slerp(self._inner(x, x), self._inner(x, y), self._inner(y, y))
        return _without_rounding(first[:, None] * x + second[:, None] * y)

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
        if recipe.method != "linear" or recipe.path or not isinstance(weight, tuple):
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

    def _inner(self, x: Table, y: Table) -> NDArray[np.float64]:
        """(cells,) inner products of two models."""
        inner: NDArray[np.float64] = np.einsum("ci,cij,cj->c", x, self._gram, y)
        return inner


def _without_rounding(table: Table) -> Table:
    """Cells that differ from the one before by rounding alone made equal to it.

    Ratios on both sides of a split add up to one, so where the parents are the same the child is
    as well; in floating point it would fall into segments that nobody can tell apart.
    """
    differs = (np.abs(np.diff(table, axis=0)) > _ROUNDING).any(axis=1)
    starts = np.append(0, np.flatnonzero(differs) + 1)
    joined: Table = table[np.repeat(starts, np.diff(np.append(starts, len(table))))]
    return joined
