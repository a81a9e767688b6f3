"""Models in memory, as the functions below the methods see them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from search.layout import Layout
from search.layout import Tensor as LayoutTensor
from workers.memo import Memo
from workers.merge_method import Sources


def sources_of(
    base: Mapping[str, Tensor], parents: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Sources]:
    """Every tensor of a base and its parents, each of which can see all others."""
    described = {
        name: LayoutTensor(name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype))
        for name, tensor in base.items()
    }
    layout, memo = Layout.of(described.values()), Memo()
    made = {
        name: Sources(
            name=name,
            base=tensor,
            parents=[parent[name] for parent in parents.values()],
            labels=tuple(parents),
            memo=memo,
            kind=layout.kind(described[name]),
            depth=layout.depth(name),
            model=lambda: (made[name] for name in sorted(made)),
        )
        for name, tensor in base.items()
    }
    return made
