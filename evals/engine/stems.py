"""Keys and values of what many rows stand behind, computed once and never copied whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from evals.engine.encoding import Tokens

# Of each layer: keys and values, both (1, heads, tokens, size of a head).
States = Sequence[tuple[Tensor, Tensor]]


class Stems:
    """The stems that one set of weights has read.

    Kept between runs, it saves the next run of the same weights to read them again; under other
    weights it is worth nothing.
    """

    def __init__(self) -> None:
        self._known: dict[Tokens, States] = {}

    def __getitem__(self, stem: Tokens) -> States:
        return self._known[stem]

    def __contains__(self, stem: Tokens) -> bool:
        return stem in self._known

    def add(self, stem: Tokens, states: States) -> None:
        """Remember a stem."""
        self._known[stem] = states

    def longest(self, stem: Tokens) -> Tokens:
        """The longest known beginning of a stem; empty when there is none."""
        beginnings = (known for known in self._known if known == stem[: len(known)])
        return max(beginnings, key=len, default=())

    def keep_beginnings(self, stem: Tokens) -> None:
        """Forget all stems but those that this one continues."""
        for known in [known for known in self._known if known != stem[: len(known)]]:
            del self._known[known]


class _Behind(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers ships some types
    """Shows every row the same keys and values before its own, and keeps nothing."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        rows = len(key_states)
        keys = torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=-2)
        values = torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=-2)
        return keys, values


class _Room(DynamicLayer):  # type: ignore[no-untyped-call]  # likewise
    """Keeps what is read in a place of its final size: nothing is copied for the next token."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self._capacity = capacity
        self._length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._all_keys = self._place(key_states)
            self._all_values = self._place(value_states)
        start, self._length = self._length, self._length + key_states.shape[-2]
        self._all_keys[:, :, start : self._length] = key_states
        self._all_values[:, :, start : self._length] = value_states
        return self._seen()

    def batch_select_indices(self, indices: Tensor) -> None:
        self._all_keys = self._all_keys[indices]
        self._all_values = self._all_values[indices]
        self._seen()

    def _place(self, states: Tensor) -> Tensor:
        rows, heads, _, size = states.shape
        return states.new_empty(rows, heads, self._capacity, size)

    def _seen(self) -> tuple[Tensor, Tensor]:
        keys = self._all_keys[:, :, : self._length]
        values = self._all_values[:, :, : self._length]
        self.keys, self.values = keys, values
        return keys, values


def room(states: States, *, rows: int, layers: int, capacity: int) -> Cache:
    """A cache for texts that grow, behind a stem where there is one.

    Args:
        states: of the stem.
        rows: that stand behind it.
        layers: of the model.
        capacity: tokens of a row at most, the stem's counted.
    """
    cache = Cache(layers=[_Room(capacity) for _ in range(layers)])
    for layer, (keys, values) in enumerate(states):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
    return cache


def behind(states: States) -> Cache:
    """A cache for rows that stand behind a stem."""
    return Cache(layers=[_Behind(keys, values) for keys, values in states])


def recorder(states: States = ()) -> DynamicCache:
    """A cache that keeps what one row reads, behind a stem where there is one.

    Its layers keep every token, whatever the model's window: masks say what is seen.
    """
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(states):
        cache.update(keys, values, layer)
    return cache


def recorded(cache: DynamicCache) -> States:
    """What a recorder with one row has kept."""
    layers = cast("list[DynamicLayer]", cache.layers)
    return [(cast("Tensor", layer.keys), cast("Tensor", layer.values)) for layer in layers]
