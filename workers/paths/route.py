"""A recipe's path laid out over tensors: where each is from, and what it is multiplied with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from search.layout import Layout
from search.recipe import Step
from search.stack import Stack, stack_of
from workers.paths.folding import Change, folded

# Beyond this, or below its inverse, a product of scales leaves nothing of a state in float16.
_MOST = 1e4


@dataclass(frozen=True, slots=True)
class Place:
    """A layer of the model that a path makes.

    Args:
        model: whose layer it is; None for the merge's.
        layer: its number there.
        changes: by part, for those that are not taken as they are.
    """

    model: str | None
    layer: int
    changes: Mapping[str, Change]


@dataclass(frozen=True, slots=True)
class Route:
    """The layers of the model that a path makes, in order."""

    stack: Stack
    places: Sequence[Place]

    @property
    def layers(self) -> list[int]:
        """The number that each layer has in the model that it is of."""
        return [place.layer for place in self.places]

    @property
    def merged(self) -> frozenset[str]:
        """Names of the merge's tensors in layers that the path leads through."""
        return frozenset(
            self.stack.tensor(place.layer, part)
            for place in self.places
            for part in self.stack.parts
            if place.model is None
        )

    def tensors(self) -> Iterator[tuple[str, Place, str]]:
        """New name, place and part of every tensor in a layer."""
        for number, place in enumerate(self.places):
            for part in self.stack.parts:
                yield self.stack.tensor(number, part), place, part


def route(layout: Layout, path: Sequence[Step]) -> Route:
    """Lay a path out.

    Raises:
        ValueError: the path does not fit the layout.
    """
    stack = stack_of(layout)
    return Route(stack, list(_places(stack, path)))


def _places(stack: Stack, path: Sequence[Step]) -> Iterator[Place]:
    product = 1.0
    for number, step in enumerate(path):
        where = f"path[{number}]"
        if step.layer >= stack.depth:
            raise ValueError(f"{where}: there is no layer {step.layer}, only {stack.depth} layers")
        if unknown := step.weights.keys() - stack.parts.keys():
            raise ValueError(f"{where}: a layer has no '{min(unknown)}'")
        product *= step.scale
        if not 1 / _MOST <= product <= _MOST:
            raise ValueError(f"{where}: all scales up to here multiply to {product:g}")
        changes = folded(stack.parts, product) if product != 1.0 else {}
        for part, factor in step.weights.items():
            was = changes.get(part, Change(1.0))
            changes[part] = Change(was.factor * factor, was.shift * factor)
        yield Place(step.model, step.layer, {k: c for k, c in changes.items() if c != Change(1.0)})
