"""Merges that papers recommend: what a search should try before it believes anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.geometry import Geometry
from search.space import EVERYWHERE, METHOD, Genome, SearchSpace

# Weights of task arithmetic (Ilharco et al. 2023) and of TIES (Yadav et al. 2023) without a search,
# and the share of its changes that TIES keeps of each parent.
_TASK_ARITHMETIC, _TIES, _DENSITY = 0.4, 0.3, 0.2
# More parents than this share what task arithmetic adds.
_FULL_WEIGHT_PARENTS = 5
# LiNeS (Wang et al. 2024): how much more of all changes is in the last layer than in the first.
_SLOPE = 0.5
# Points nearer to one that is there would teach little; in parts of a gene's range.
_NEAR = 0.05


def warm_starts(
    space: SearchSpace, geometry: Geometry | None, known: Iterable[Genome]
) -> list[Genome]:
    """Genomes of task arithmetic, TIES, Model Stock and LiNeS, as far as the space holds them.

    Args:
        space: in which weights are searched, else there are none.
        geometry: of the models, which Model Stock needs.
        known: genomes that are tried anyway; what is near one of them is left out.
    """
    if all(gene.parameter != "weight" for gene in space.genes):
        return []
    taken, found = list(known), []
    for genome in _recommended(space, geometry):
        if all(np.abs(genome - other).max() >= _NEAR for other in taken):
            taken.append(genome)
            found.append(genome)
    return found


def _recommended(space: SearchSpace, geometry: Geometry | None) -> Iterator[Genome]:
    count = len(space.parents)
    share = _TASK_ARITHMETIC if count <= _FULL_WEIGHT_PARENTS else 2.0 / count
    yield _everywhere(space, "task_arithmetic", {"weight": share})
    if "ties" in (space.declaration.name, *space.declaration.alternatives):
        yield _everywhere(space, "ties", {"weight": _TIES, "density": _DENSITY})
    blocks = len(space.blocks)
    if geometry is not None and blocks > 1 and count > 1:
        yield _by_block(space, _model_stock(space, geometry) / count)
    depths = _depths(space)
    if np.ptp(depths) > 0:
        yield _by_block(space, 1.0 / count + _SLOPE * depths)


def _everywhere(space: SearchSpace, method: str, values: Mapping[str, Any]) -> Genome:
    """The same in every block; by a method where there is a choice."""
    return space.encode({METHOD: method, **values})


def _by_block(space: SearchSpace, weights: NDArray[np.float64]) -> Genome:
    """(blocks,) weights that all parents have, as task arithmetic."""
    genome = _everywhere(space, "task_arithmetic", {})
    for position, gene in enumerate(space.genes):
        if gene.parameter == "weight":
            here = weights.mean() if gene.block == EVERYWHERE else weights[gene.block]
            genome[position] = gene.unit(float(here))
    return genome


def _model_stock(space: SearchSpace, geometry: Geometry) -> NDArray[np.float64]:
    """(blocks,) how much of the parents' average change is kept.

    Jang et al. 2024, eq. 5, with the mean cosine of all pairs of parents, not below 0: what the
    parents agree on is kept, what is each one's own is taken for noise.
    """
    count = len(space.parents)
    kept = np.empty(len(space.blocks))
    for block, products in enumerate(geometry.changes(space.layout, space.partition)):
        norms = np.sqrt(np.maximum(products.diagonal(), 0.0))
        cosines = [
            products[i, j] / (norms[i] * norms[j]) if norms[i] * norms[j] > 0 else 0.0
            for i, j in combinations(range(count), 2)
        ]
        cosine = max(float(np.mean(cosines)), 0.0)
        kept[block] = count * cosine / (1.0 + (count - 1) * cosine)
    return kept


def _depths(space: SearchSpace) -> NDArray[np.float64]:
    """(blocks,) from 0, the first layer and what is outside of layers, to 1, the last layer."""
    depths = np.zeros(len(space.blocks))
    for index, block in enumerate(space.layout.blocks(space.partition)):
        places = [space.layout.depth(piece.tensor) for piece in block.pieces]
        shares = [place / max(count - 1, 1) for place, count in filter(None, places)]
        depths[index] = float(np.mean(shares)) if shares else 0.0
    return depths
