"""The shape of a model, from tensor names alone: which tensors, in which order, in which blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Module = Literal["attention", "mlp", "norm"]
# What a tensor is to a merge method: a projection, a table with a row per token or position, a
# vector (norm weights, biases), or anything of more dimensions (fused experts, convolutions).
Kind = Literal["matrix", "embedding", "vector", "other"]

_LAYER = re.compile(r"^(?P<stack>.*?)\.(?P<index>\d+)\.(?P<rest>.+)$")
_MODULES: tuple[tuple[Module, re.Pattern[str]], ...] = (
    ("norm", re.compile(r"norm|\bln(_|\d)|layernorm", re.I)),
    ("attention", re.compile(r"attn|attention", re.I)),
    ("mlp", re.compile(r"mlp|feed_?forward|ffn|expert|moe|\bfc\d|\bdense_", re.I)),
)
_EMBEDDING = re.compile(r"embed|\bwte\b|\bwpe\b|\bshared\b", re.I)
_HEAD = re.compile(r"lm_head|embed_out|^output\b|^score\b|^head\b", re.I)
_NORM = re.compile(r"norm|\bln_", re.I)


Layers = Annotated[
    Annotated[int, Field(ge=1), Tag("<number>")] | Annotated[Literal["all"], Tag("<word>")],
    Discriminator(lambda value: "<word>" if isinstance(value, str) else "<number>"),
]


class LayerGroups(BaseModel):
    """Blocks of ``layers`` consecutive layers, or of ``all``, split further by kind of module.

    Tensors of a layer that belong to none of ``modules`` form the group's ``rest``. Embeddings,
    head and final norm are always blocks of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: Layers = Field(default=1, description="consecutive layers in one block")
    modules: tuple[Module, ...] = ()


class Segments(BaseModel):
    """Blocks that are ranges of the flattened model (the layout's tensors end to end, row-major).

    ``boundaries`` has one entry more than there are blocks, from 0 to the number of elements.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    boundaries: tuple[int, ...]


Partition = Literal["model", "tensor"] | LayerGroups | Segments


class Tensor(BaseModel):
    """Name, shape and dtype (safetensors spelling, such as ``BF16``) of one stored tensor."""

    model_config = ConfigDict(frozen=True)

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements ``start`` to ``stop`` of a flattened tensor (all of it, but for segments)."""

    tensor: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Block:
    """Part of a model that shares its merge parameters."""

    name: str
    pieces: tuple[Piece, ...]


class Layout(BaseModel):
    """The floating-point tensors of the base that are merged, once each, in model order.

    Model order is embeddings, layers by number, final norm, head; by name within a layer.
    ``aliases`` maps the name of a tied tensor to the one that it shares its memory with.
    """

    model_config = ConfigDict(frozen=True)

    tensors: tuple[Tensor, ...]
    aliases: Mapping[str, str] = {}

    @classmethod
    def of(cls, tensors: Iterable[Tensor], aliases: Mapping[str, str] | None = None) -> Layout:
        """Put the tensors in model order and leave the aliases out."""
        tied = dict(aliases or {})
        kept = (tensor for tensor in tensors if tensor.name not in tied)
        return cls(tensors=tuple(sorted(kept, key=lambda t: _model_order(t.name))), aliases=tied)

    @cached_property
    def size(self) -> int:
        """Number of elements of the flattened model."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor starts in the flattened model, then its end."""
        ends = [0]
        for tensor in self.tensors:
            ends.append(ends[-1] + tensor.size)
        return tuple(ends)

    def kind(self, tensor: Tensor) -> Kind:
        """What a tensor is to methods that treat matrices in a way of their own."""
        if len(tensor.shape) < 2:
            return "vector"
        if _outside(tensor.name) in ("embed", "head"):
            return "embedding"
        return "matrix" if len(tensor.shape) == 2 else "other"

    def depth(self, name: str) -> tuple[int, int] | None:
        """Number of a tensor's layer and of layers in its stack; None outside of layers."""
        stack, index, _ = _layer(name)
        return (index, self._depth(stack)) if index >= 0 else None

    def module(self, name: str) -> Module | None:
        """The kind of module that a tensor belongs to; None outside of layers."""
        _, index, rest = _layer(name)
        return module_of(rest) if index >= 0 else None

    def blocks(self, partition: Partition) -> tuple[Block, ...]:
        """The blocks of a partition, in model order of their first tensor."""
        match partition:
            case "model":
                return (Block("model", tuple(self._whole(t) for t in self.tensors)),)
            case "tensor":
                return tuple(Block(t.name, (self._whole(t),)) for t in self.tensors)
            case LayerGroups():
                return self._layer_groups(partition)
            case Segments(boundaries=boundaries):
                return tuple(self._segment(start, stop) for start, stop in pairwise(boundaries))

    def grid(self, cells: int = 512) -> tuple[int, ...]:
        """Boundaries at every tensor, and inside large tensors so that no cell exceeds size/cells.

        The places at which M2N2 may split a model: fine enough that a small one can be cut
        anywhere.
        """
        step = max(1, math.ceil(self.size / cells))
        cuts = {self.size}
        for tensor, start in zip(self.tensors, self.offsets, strict=False):
            cuts.update(range(start, start + tensor.size, step))
        return tuple(sorted(cuts))

    @staticmethod
    def _whole(tensor: Tensor) -> Piece:
        return Piece(tensor.name, 0, tensor.size)

    def _layer_groups(self, groups: LayerGroups) -> tuple[Block, ...]:
        pieces: dict[str, list[Piece]] = {}
        for tensor in self.tensors:
            pieces.setdefault(self._group_of(tensor.name, groups), []).append(self._whole(tensor))
        return tuple(Block(name, tuple(members)) for name, members in pieces.items())

    def _group_of(self, name: str, groups: LayerGroups) -> str:
        stack, index, rest = _layer(name)
        if index < 0:
            return _outside(name)
        depth = self._depth(stack)
        layers = depth if groups.layers == "all" else groups.layers
        first = index // layers * layers
        last = min(first + layers, depth) - 1
        label = f"{stack}.{first}" if first == last else f"{stack}.{first}-{last}"
        if not groups.modules:
            return label
        module = module_of(rest)
        return f"{label}.{module if module in groups.modules else 'rest'}"

    def _depth(self, stack: str) -> int:
        return self._depths[stack]

    @cached_property
    def _depths(self) -> dict[str, int]:
        depths: dict[str, int] = {}
        for tensor in self.tensors:
            stack, index, _ = _layer(tensor.name)
            depths[stack] = max(depths.get(stack, 0), index + 1)
        return depths

    def _segment(self, start: int, stop: int) -> Block:
        pieces = []
        for tensor, offset in zip(self.tensors, self.offsets, strict=False):
            low, high = max(start, offset), min(stop, offset + tensor.size)
            if low < high:
                pieces.append(Piece(tensor.name, low - offset, high - offset))
        return Block(f"{start}:{stop}", tuple(pieces))


def module_of(name: str) -> Module | None:
    """The kind of module that a tensor, or a part of its name within a layer, belongs to."""
    return next((module for module, pattern in _MODULES if pattern.search(name)), None)


def in_layer(name: str) -> tuple[str, int, str] | None:
    """``model.layers.3.mlp.up.weight`` as stack ``model.layers``, 3, rest; None outside of layers.

    Unlike in the labels of blocks, the stack is called as tensors call it.
    """
    match = _LAYER.match(name)
    return None if match is None else (match["stack"], int(match["index"]), match["rest"])


def is_head(name: str) -> bool:
    """Whether a tensor turns the last hidden state into logits, by its name."""
    return _outside(name) == "head"


def _layer(name: str) -> tuple[str, int, str]:
    """Split ``model.layers.3.mlp.up.weight`` into stack, 3, rest; index -1 outside of layers.

    The stack loses its ``model.`` or ``transformer.`` so that labels stay short.
    """
    if (found := in_layer(name)) is None:
        return "", -1, name
    stack, index, rest = found
    return stack.removeprefix("model.").removeprefix("transformer."), index, rest


def _outside(name: str) -> str:
    if _HEAD.search(name):
        return "head"
    if _EMBEDDING.search(name):
        return "embed"
    return "final_norm" if _NORM.search(name) else "other"


_OUTSIDE_RANK = {"embed": 0, "other": 0, "final_norm": 2, "head": 3}


def _model_order(name: str) -> tuple[int, str, int, str]:
    stack, index, rest = _layer(name)
    if index < 0:
        return (_OUTSIDE_RANK[_outside(name)], "", 0, name)
    return (1, stack, index, rest)
