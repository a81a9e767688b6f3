"""Genomes as a surrogate sees them: where distance means difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.genes import Choice, Gene
from search.geometry import Geometry
from search.groups import EVERYWHERE
from search.space import SearchSpace

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

# So many genes have a scale each; more share one with those that do the same in other blocks.
_MOST_SCALES = 12
# A gene whose parent hardly changes its block keeps this part of the effect of the others, for
# small changes can be those that matter.
_LEAST_EFFECT, _MOST_EFFECT = 0.1, 4.0


class Features:
    """What a surrogate is told of a genome.

    A number is a coordinate of its own. A choice among words, flags or methods has one coordinate
    for each option, because none of them is nearer to another; numbers to choose from are numbers.

    A gene moves the model by as much as its parent differs from the base in its block. So that far
    means far in the space of weights, a coordinate is stretched around the middle by that norm, in
    units of the root mean square over the genes of the same parameter: large changes matter more.

    Args:
        space: of the genomes.
        geometry: of the models; where it is not known, all genes are taken to move as much.

    Attributes:
        groups: (features,) int; features of one group are on one scale.
    """

    def __init__(self, space: SearchSpace, geometry: Geometry | None = None) -> None:
        self._genes = space.genes
        self._effects = _effects(space, geometry)
        numbers: dict[object, int] = {}
        groups: list[int] = []
        alone = space.dim <= _MOST_SCALES
        for index, gene in enumerate(self._genes):
            words = _words(gene)
            key = index if alone or words else (gene.parameter, gene.parent)
            groups += [numbers.setdefault(key, len(numbers))] * max(len(words), 1)
        self.groups: NDArray[np.int64] = np.array(groups, dtype=np.int64)

    def __call__(self, genomes: Matrix) -> Matrix:
        """(n, dim) genomes to (n, features) in the unit cube, or as far around it as they move."""
        columns = []
        for gene, column, effect in zip(self._genes, genomes.T, self._effects, strict=True):
            if not isinstance(gene, Choice):
                columns.append(_stretched(column, effect))
                continue
            count, place = len(gene.choices), gene.places(column)
            if _words(gene):
                columns.append(np.eye(count)[place])
            else:
                columns.append(_stretched((place + 0.5) / count, effect))
        return np.concatenate(columns, axis=1)


def _words(gene: Gene | Choice) -> tuple[Any, ...]:
    """What a gene chooses from where that has no order."""
    if not isinstance(gene, Choice):
        return ()
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in gene.choices)
    return () if numbers else gene.choices


def _stretched(column: Vector, effect: float) -> Matrix:
    """(n, 1) around the middle."""
    return np.asarray(0.5 + effect * (column[:, None] - 0.5))


def _effects(space: SearchSpace, geometry: Geometry | None) -> Vector:
    """(dim,) how far each gene moves the model, in units of those of its parameter."""
    effects = np.ones(space.dim)
    if geometry is None or space.dim == 0:
        return effects
    changes = geometry.changes(space.layout, space.partition)
    squares = np.maximum(np.diagonal(changes, axis1=1, axis2=2), 0.0)
    alike: dict[str, list[int]] = {}
    for index, gene in enumerate(space.genes):
        if gene.block == EVERYWHERE:
            continue
        block = squares[gene.block]
        effects[index] = np.sqrt(block.mean() if gene.parent is None else block[gene.parent])
        alike.setdefault(gene.parameter, []).append(index)
    for genes in alike.values():
        unit = np.sqrt((effects[genes] ** 2).mean())
        effects[genes] = effects[genes] / unit if unit > 0 else 1.0
    return np.clip(effects, _LEAST_EFFECT, _MOST_EFFECT)
