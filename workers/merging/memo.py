"""What is worth keeping between candidates, within a budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Kept = TypeVar("Kept")

_BUDGET = 1 << 30
_ENTRY = 200  # bytes of a key and its place


class Memo:
    """Results by key; the ones that were not used for longest make room.

    What does not fit is computed again whenever it is asked for: slower, never different. Threads
    may ask at the same time.

    Args:
        budget: in bytes.
    """

    def __init__(self, budget: int = _BUDGET) -> None:
        self.budget = budget
        self.size = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The result of ``make``, which is only called when nothing is kept under ``key``."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                kept: Kept = self._kept[key][0]
                return kept
        made = make()
        size = _ENTRY + nbytes(made)
        with self._lock:
            if size <= self.budget and key not in self._kept:
                self._kept[key] = (made, size)
                self.size += size
                while self.size > self.budget:
                    _, (_, freed) = self._kept.popitem(last=False)
                    self.size -= freed
        return made


def nbytes(value: object) -> int:
    """Bytes of the tensors and arrays in a value, and a little for everything else."""
    match value:
        case Tensor() | np.ndarray():
            return int(value.nbytes)
        case tuple() | list():
            return sum(nbytes(item) for item in value)
        case Mapping():
            return sum(nbytes(item) for item in value.values())
    if is_dataclass(value):
        return sum(nbytes(getattr(value, field.name)) for field in fields(value))
    return 32
