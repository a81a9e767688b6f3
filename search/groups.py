"""Which blocks of a model have one searched value together, or what lies between two values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from search.layout import Block, LayerGroups, Layout, Module, Partition

# Stands for all blocks.
EVERYWHERE = -1

# Columns of the modules that are blocks of their own.
_APART = tuple(f".{module}" for module in get_args(Module))


@dataclass(frozen=True, slots=True)
class Group:
    """The blocks that a searched value acts on.

    Args:
        name: for people.
        block: the first one that it alone decides on, or nearly so; `EVERYWHERE` if it does on all.
        shares: block -> weight of the value in the block's own; the weights that a block gives to
            all groups sum to 1.
    """

    name: str
    block: int
    shares: dict[int, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """How the values of one searched parameter become rows of a table.

    Args:
        groups: whose blocks have a value together; a gene belongs to one.
        rows: per block, (group, share) of all that its value is made of.
    """

    groups: tuple[Group, ...]
    rows: tuple[tuple[tuple[int, float], ...], ...]

    @classmethod
    def over(cls, groups: tuple[Group, ...], blocks: int) -> Spread:
        rows: list[list[tuple[int, float]]] = [[] for _ in range(blocks)]
        for place, group in enumerate(groups):
            for block, share in group.shares.items():
                rows[block].append((place, share))
        return cls(groups, tuple(map(tuple, rows)))

    def table(self, values: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
        """(blocks, width) rows from (groups, width) values; never outside of what is mixed."""
        return [_mixed([(values[group], share) for group, share in row]) for row in self.rows]

    def values(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """(groups, width) values whose table is nearest to (blocks, width) rows."""
        if all(len(row) == 1 for row in self.rows):
            return table[[min(group.shares) for group in self.groups]]
        shares = np.zeros((len(self.rows), len(self.groups)))
        for block, row in enumerate(self.rows):
            for group, share in row:
                shares[block, group] = share
        return np.asarray(np.linalg.lstsq(shares, table, rcond=None)[0], dtype=np.float64)


def _mixed(parts: Sequence[tuple[Sequence[float], float]]) -> tuple[float, ...]:
    if len(parts) == 1:
        return tuple(parts[0][0])
    rows = [row for row, _ in parts]
    sums = (sum(row[i] * share for row, share in parts) for i in range(len(rows[0])))
    return tuple(
        min(max(mean, min(ends)), max(ends))
        for mean, ends in zip(sums, zip(*rows, strict=True), strict=True)
    )


def refined(partition: Partition) -> Partition:
    """The partition in which a value can differ from layer to layer."""
    match partition:
        case "model":
            return LayerGroups(layers=1)
        case LayerGroups(modules=modules):
            return LayerGroups(layers=1, modules=modules)
    return partition


def everywhere(blocks: Sequence[Block]) -> tuple[Group, ...]:
    """One value for all blocks."""
    return (Group("model", EVERYWHERE, dict.fromkeys(range(len(blocks)), 1.0)),)


def apart(layout: Layout, blocks: Sequence[Block], partition: Partition) -> tuple[Group, ...]:
    """One value for each block of a partition, of which ``blocks`` are a refinement."""
    owners = layout.blocks(partition)
    if owners == tuple(blocks):
        return tuple(Group(block.name, place, {place: 1.0}) for place, block in enumerate(blocks))
    owner = {piece.tensor: place for place, block in enumerate(owners) for piece in block.pieces}
    shares: dict[int, dict[int, float]] = {}
    for place, block in enumerate(blocks):
        shares.setdefault(owner[block.pieces[0].tensor], {})[place] = 1.0
    return tuple(Group(owners[o].name, min(found), found) for o, found in shares.items())


def gradient(layout: Layout, blocks: Sequence[Block], knots: int) -> tuple[Group, ...]:
    """Values at evenly spaced depths; between two of them blocks are interpolated linearly.

    Layer l of L stands at l / (L - 1), as in mergekit's gradients; what comes before the layers
    stands with the first of them, what comes after with the last. Modules are apart.

    Args:
        layout: of the model.
        blocks: that lie in one layer each, or outside of layers.
        knots: how many depths, at least two; those that no block is near have no group.
    """
    found: dict[tuple[str, int], dict[int, float]] = {}
    for place, (column, depth) in enumerate(_places(layout, blocks)):
        at = depth * (knots - 1)
        below = min(int(at), knots - 2)
        for knot, share in ((below, 1.0 - (at - below)), (below + 1, at - below)):
            if share > 0:
                found.setdefault((column, knot), {})[place] = share
    return tuple(
        Group(f"{column}@{knot / (knots - 1):.3g}", max(shares, key=lambda b: shares[b]), shares)
        for (column, knot), shares in sorted(found.items())
    )


def _places(layout: Layout, blocks: Sequence[Block]) -> Iterator[tuple[str, float]]:
    """Column of each block and how deep it is, from 0 to 1."""
    depths = [layout.depth(block.pieces[0].tensor) for block in blocks]
    inside = [_column(b.name, d[0]) for b, d in zip(blocks, depths, strict=True) if d is not None]
    layered = next((place for place, depth in enumerate(depths) if depth is not None), len(blocks))
    for place, block, depth in zip(count(), blocks, depths):
        if depth is None:
            yield _outside(block, inside), float(place > layered)
        else:
            layer, layers = depth
            yield _column(block.name, layer), layer / (layers - 1) if layers > 1 else 1.0


def _column(name: str, layer: int) -> str:
    """What a block is called in every layer: ``layers.3.mlp`` as ``layers.mlp``."""
    parts = name.split(".")
    parts.remove(str(layer))
    return ".".join(parts)


def _outside(block: Block, columns: Sequence[str]) -> str:
    """The column of a block outside of layers: that of all the rest in layers, where there is one.

    Tensors that are blocks of their own have columns of their own.
    """
    if len(block.pieces) == 1 and block.name == block.pieces[0].tensor:
        return block.name
    rest = {column for column in columns if not column.endswith(_APART)}
    return rest.pop() if len(rest) == 1 else "outside"
