"""Inner products of the models on a grid: all that SLERP needs to know of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.layout import Layout, Partition


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Gram matrices of base and parents, measured once by a worker.

    Args:
        boundaries: (cells + 1,) int64, offsets into the flattened model.
        gram: (cells, k + 1, k + 1) float64; entry [c, i, j] is the inner product of models i and j
            within cell c; model 0 is the base, then the parents in the order of the spec.
    """

    boundaries: NDArray[np.int64]
    gram: NDArray[np.float64]

    def changes(self, layout: Layout, partition: Partition) -> NDArray[np.float64]:
        """(blocks, k, k) inner products of the parents' differences to the base, by block.

        A cell belongs to the block that it begins in; cells end where tensors do, so that only
        blocks that are parts of tensors can be off by one cell.

        Args:
            layout: that was measured.
            partition: into blocks.
        """
        parents, base = self.gram[:, 1:, 1:], self.gram[:, 0, 0]
        with_base = self.gram[:, 0, 1:]
        products = parents - with_base[:, :, None] - with_base[:, None, :] + base[:, None, None]
        sums = np.concatenate((np.zeros((1, *products.shape[1:])), np.cumsum(products, axis=0)))
        offsets = dict(zip((t.name for t in layout.tensors), layout.offsets, strict=False))
        found = np.zeros((len(layout.blocks(partition)), *products.shape[1:]))
        for index, block in enumerate(layout.blocks(partition)):
            for piece in block.pieces:
                ends = offsets[piece.tensor] + np.array([piece.start, piece.stop])
                first, last = np.searchsorted(self.boundaries[:-1], ends)
                found[index] += sums[last] - sums[first]
        return found
