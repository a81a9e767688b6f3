"""Differences of parents to the base, from the inner products of the models."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from search.geometry import Geometry
from search.layout import LayerGroups, Layout, Tensor

TENSORS = [
    Tensor(name=f"layers.{i}.{m}.w", shape=(3, 4), dtype="F32")
    for i in range(3)
    for m in ("mlp", "attn")
]


@pytest.mark.parametrize("partition", ["model", "tensor", LayerGroups(layers=2, modules=("mlp",))])
def test_they_are_those_of_the_weights(partition: object) -> None:
    layout = Layout.of(TENSORS)
    models = np.random.default_rng(0).standard_normal((4, layout.size))
    boundaries = np.array(layout.grid(cells=20))
    cells = [models[:, a:b] for a, b in pairwise(boundaries)]
    geometry = Geometry(boundaries, np.stack([cell @ cell.T for cell in cells]))
    changes = models[1:] - models[0]
    starts = dict(zip((t.name for t in layout.tensors), layout.offsets, strict=False))
    blocks = layout.blocks(partition)  # type: ignore[arg-type]  # one of those above
    found = geometry.changes(layout, partition)  # type: ignore[arg-type]  # likewise
    assert len(found) == len(blocks)
    for block, products in zip(blocks, found, strict=True):
        own = np.concatenate(
            [
                changes[:, starts[p.tensor] + p.start : starts[p.tensor] + p.stop]
                for p in block.pieces
            ],
            axis=1,
        )
        assert products == pytest.approx(own @ own.T)
