"""Models in memory, as the functions below the methods see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from search.layout import Layout
from search.layout import Tensor as LayoutTensor
from workers.merging.memo import Memo
from workers.merging.merge_method import Sources, methods

State = dict[str, Tensor]

SHAPES = {
    "model.embed_tokens.weight": (11, 6),
    "model.layers.0.mlp.up_proj.weight": (8, 6),
    "model.layers.0.norm.weight": (6,),
    "model.layers.1.mlp.up_proj.weight": (8, 6),
    "model.layers.1.mlp.experts": (2, 4, 6),
    "model.norm.weight": (6,),
    "lm_head.weight": (11, 6),
}
MATRIX = "model.layers.0.mlp.up_proj.weight"


def state(seed: int, *, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> State:
    """A small model: embeddings, two layers, fused experts, norms and a head."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=generator) * scale).to(dtype)
        for name, shape in SHAPES.items()
    }


def plus(base: State, *deltas: State) -> State:
    """A model and what is added to it."""
    return {name: sum((d[name] for d in deltas), start=tensor) for name, tensor in base.items()}


def sources_of(
    base: Mapping[str, Tensor], parents: Mapping[str, Mapping[str, Tensor]], *, seed: int = 0
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
            seed=seed,
            memo=memo,
            kind=layout.kind(described[name]),
            depth=layout.depth(name),
            model=lambda: (made[name] for name in sorted(made)),
        )
        for name, tensor in base.items()
    }
    return made


def merged(method: str, sources: Mapping[str, Sources], parameters: Mapping[str, Any]) -> State:
    """Every tensor, merged with whatever the sources remember."""
    chosen = methods[method]
    given = chosen.arguments(parameters, len(next(iter(sources.values())).parents))
    result = {}
    for name, tensor in sources.items():
        result[name] = torch.empty_like(tensor.base)
        chosen.merge(result[name], tensor, given)
    return result
