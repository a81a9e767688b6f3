"""Which parts of a model M2N2 crosses apart, and between which it splits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search.crossover import Chromosomes, Indices
from search.layout import Layout, Module, Partition
from search.space import EVERYWHERE, SearchSpace

SplitAt = Literal["tensor", "block", "element"]


def grid_chromosomes(
    layout: Layout,
    grid: NDArray[np.int64],
    *,
    split_at: SplitAt,
    blocks: Partition,
    modules: Collection[Module],
    most: int,
) -> Chromosomes:
    """Chromosomes of cells between (cells + 1,) boundaries, which tensors start at.

    Args:
        layout: of the model.
        grid: boundaries in the flattened model.
        split_at: between tensors, between blocks, or between any cells.
        blocks: in their order chromosomes are split where it is between blocks.
        modules: that are crossed apart from the rest.
        most: places at which each chromosome may be split.
    """
    tensors: Indices = np.searchsorted(layout.offsets, grid[:-1], side="right") - 1
    names = [layout.tensors[tensor].name for tensor in tensors]
    match split_at:
        case "tensor":
            units = tensors
        case "block":
            units = _block_numbers(layout, blocks, names)
        case "element":
            units = np.arange(len(tensors))
    return Chromosomes.of(
        [_name(layout.module(name), modules) for name in names],
        units,
        np.diff(grid).astype(np.float64),
        most=most,
    )


def gene_chromosomes(
    space: SearchSpace, *, split_at: SplitAt, modules: Collection[Module], most: int
) -> Chromosomes:
    """Chromosomes of genes: the same where a gene is an element, and blocks are the space's.

    Genes of a block whose tensors are of several modules, or of the whole model, are of the rest.
    """
    of_block: dict[int, Module | None] = {EVERYWHERE: None}
    for number, block in enumerate(space.layout.blocks(space.partition)):
        found = {space.layout.module(piece.tensor) for piece in block.pieces}
        of_block[number] = found.pop() if len(found) == 1 else None
    blocks = [gene.block for gene in space.genes]
    return Chromosomes.of(
        [_name(of_block[block], modules) for block in blocks],
        np.arange(len(blocks)) if split_at == "element" else np.array(blocks),
        np.ones(len(blocks)),
        most=most,
    )


def _name(module: Module | None, modules: Collection[Module]) -> str:
    return "rest" if module is None or module not in modules else module


def _block_numbers(layout: Layout, partition: Partition, tensors: Sequence[str]) -> Indices:
    """Number of the block that each tensor is in."""
    owner = {
        piece.tensor: number
        for number, block in enumerate(layout.blocks(partition))
        for piece in block.pieces
    }
    return np.array([owner[tensor] for tensor in tensors], np.intp)
