"""Spaces in which every parent has a weight: what soups and pairwise merges search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.optimizer import needs_genes
from search.space import Genome, SearchSpace
from search.spec import Range, SearchSpec


def weighted(space: SearchSpace, weights: Sequence[float] | NDArray[np.float64]) -> Genome:
    """The point where each parent has its weight, in all blocks; nearest, where out of range.

    Other parameters have their defaults.
    """
    return space.encode({"weight": tuple(map(float, weights))})


def weights_at(space: SearchSpace, genome: Sequence[float]) -> NDArray[np.float64]:
    """(parents,) the weights at a point, in the first block."""
    genes = zip(space.genes, genome, strict=True)
    found = [g.value(unit) for g, unit in genes if g.parameter == "weight" and g.block == 0]
    return np.array(found, dtype=np.float64)


def needs_weights(spec: SearchSpec, dim: int, why: str) -> dict[str, str]:
    """The problems of a spec that does not let parents have any share from none to all.

    Args:
        spec: of the search.
        dim: its number of genes.
        why: the beginning of the message, up to the semicolon.
    """
    problems = needs_genes(dim)
    if len(spec.parents) < 2:
        problems["parents"] = f"{why}; name at least two"
    weight = spec.space.parameters.get("weight")
    if not isinstance(weight, Range) or weight.low > 0.0 or weight.high < 1.0 or weight.log:
        problems["space.parameters.weight"] = (
            f"{why}; search a weight from 0 (or less) to 1 (or more): weight: {{low: 0, high: 1}}"
        )
    if spec.space.path is not None:
        problems["space.path"] = f"{why}, and chooses no layers; remove it, or use auto"
    return problems
