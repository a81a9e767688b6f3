"""Genomes as a surrogate sees them: where distance means difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.genes import Choice, Gene
from search.space import SearchSpace

Matrix = NDArray[np.float64]

# So many genes have a scale each; more share one with those that do the same in other blocks.
_MOST_SCALES = 12


class Features:
    """What a surrogate is told of a genome.

    A number is a coordinate of its own. A choice among words, flags or methods has one coordinate
    for each option, because none of them is nearer to another; numbers to choose from are numbers.

    Attributes:
        groups: (features,) int; features of one group are on one scale.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._genes = space.genes
        numbers: dict[object, int] = {}
        groups: list[int] = []
        alone = space.dim <= _MOST_SCALES
        for index, gene in enumerate(self._genes):
            words = _words(gene)
            key = index if alone or words else (gene.parameter, gene.parent)
            groups += [numbers.setdefault(key, len(numbers))] * max(len(words), 1)
        self.groups: NDArray[np.int64] = np.array(groups, dtype=np.int64)

    def __call__(self, genomes: Matrix) -> Matrix:
        """(n, dim) genomes to (n, features) in the unit cube."""
        columns = []
        for gene, column in zip(self._genes, genomes.T, strict=True):
            if not isinstance(gene, Choice):
                columns.append(column[:, None])
                continue
            count = len(gene.choices)
            place = gene.places(column)
            columns.append(np.eye(count)[place] if _words(gene) else (place[:, None] + 0.5) / count)
        return np.concatenate(columns, axis=1)


def _words(gene: Gene | Choice) -> tuple[Any, ...]:
    """What a gene chooses from where that has no order."""
    if not isinstance(gene, Choice):
        return ()
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in gene.choices)
    return () if numbers else gene.choices
