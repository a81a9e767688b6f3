"""The layers of a model, as its files name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search.layout import Layout, in_layer


class NoStack(ValueError):
    """The layers of a model cannot be put in another order; the message says why."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers that are alike, one after the other.

    Args:
        name: what the names of their tensors begin with (``model.layers``).
        depth: how many there are.
        parts: names of a layer's tensors within it, with the number of elements of each.
    """

    name: str
    depth: int
    parts: Mapping[str, int]

    def tensor(self, layer: int, part: str) -> str:
        """The name of a tensor."""
        return f"{self.name}.{layer}.{part}"


def stack_of(layout: Layout) -> Stack:
    """The one stack of a layout.

    Raises:
        NoStack: it has none or several, or its layers do not have the same tensors.
    """
    stacks: dict[str, dict[int, dict[str, tuple[int, ...]]]] = {}
    for tensor in layout.tensors:
        if (found := in_layer(tensor.name)) is not None:
            stack, layer, part = found
            stacks.setdefault(stack, {}).setdefault(layer, {})[part] = tensor.shape
    if len(stacks) != 1:
        names = ", ".join(sorted(stacks)) or "none"
        raise NoStack(
            f"only layers of one stack can be put in another order, and there are {names}"
        )
    ((name, layers),) = stacks.items()
    if sorted(layers) != list(range(len(layers))):
        raise NoStack(f"'{name}' lacks layers between its first and its last")
    for layer, shapes in layers.items():
        if shapes != layers[0]:
            raise NoStack(
                f"'{name}.{layer}' has other tensors than '{name}.0', and cannot take its place"
            )
    sizes = {t.name: t.size for t in layout.tensors}
    parts = {part: sizes[f"{name}.0.{part}"] for part in sorted(layers[0])}
    return Stack(name, len(layers), parts)
