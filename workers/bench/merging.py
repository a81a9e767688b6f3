"""How fast a resident model is written over with candidates, beside a plain copy."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.method import LINES, Parameter
from search.recipe import Recipe, Value
from search.spec import BASE
from workers.bench.tables import columns
from workers.checkpoints.parents import Parents
from workers.materializer import Materializer
from workers.merging.memo import Kept, Memo, nbytes
from workers.merging.merge_method import methods
from workers.messages import Zoo
from workers.methods.dare_ties import TRIM
from workers.resident import empty_model

# The pass that all others are compared with.
LINEAR = "linear"
# A copy of more bytes goes through the same buffers again: they are far larger than any cache.
_BUFFER_BYTES = 1 << 30
# Elements between two that are touched: at least one to a page of 4 KiB, whatever the dtype.
_STRIDE = 1024


@dataclass(frozen=True, slots=True)
class Speed:
    """What the candidates of one method cost; medians over rounds of turns.

    Bytes are counted as few as any merge needs: each parent read once, the base too where the
    formula has it, the result written once.

    Args:
        method: by name.
        parents: how many were merged.
        candidate_ms: of a candidate with new parameters, after the first.
        gb_per_s: bytes read and written in that time.
        times_copy: that time over the time of a plain copy that reads and writes as many bytes.
        times_linear: that time over the time of the linear method.
        first_s: of the first candidate, which finds out what is kept; it also compiles, unless a
            method before it had the same loop.
        kept_mb: what is remembered from one candidate to the next, whatever the budget.
    """

    method: str
    parents: int
    candidate_ms: float
    gb_per_s: float
    times_copy: float
    times_linear: float
    first_s: float
    kept_mb: float


def speed_table(speeds: Iterable[Speed]) -> str:
    """As Markdown."""
    header = ("method", "parents", "ms", "GB/s", "x copy", "x linear", "first, s", "kept, MB")
    return columns(header, map(astuple, speeds))


def default_methods() -> tuple[str, ...]:
    """Every method but those that prepare for minutes, which then are linear passes."""
    return tuple(m.name for m in methods if m.declaration.cost != "prepared")


def speeds(
    zoo: Zoo, names: Sequence[str] | None = None, *, rounds: int = 7, device: str = "cpu"
) -> list[Speed]:
    """Time methods in turns: in every round each makes a candidate with parameters of its own.

    A change of the machine's pace so meets all of them, and ratios are taken within a round.

    Args:
        zoo: no tokenizer is needed.
        names: of methods; ``default_methods`` when None. ``linear`` is always among them.
        rounds: that are timed, after the first candidates.
        device: of the resident model and its parents.
    """
    bench = Workbench(zoo, device=device)
    chosen = dict.fromkeys((LINEAR, *(default_methods() if names is None else names)))
    contenders = [bench.contender(name) for name in chosen]
    copies = {contender.moved_bytes: _Taken() for contender in contenders}
    copy = _PlainCopy(max(copies), device)
    taken = {contender.method: _Taken() for contender in contenders}
    rng = np.random.default_rng(0)
    for _ in range(rounds + 1):
        for moved, times in copies.items():
            times.add(bench.seconds(lambda: copy.move(moved)))  # noqa: B023 - called at once
        for contender in contenders:
            taken[contender.method].add(bench.merge_seconds(contender, contender.draw(rng)))
    linear = taken[LINEAR]
    return [
        _speed(contender, taken[contender.method], copies[contender.moved_bytes], linear)
        for contender in contenders
    ]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that is remembered, and how long it took to find out."""

    value: Any
    seconds: float


class Account(Memo):
    """What one method remembers, in a ledger that all methods of a bench share.

    So that nothing is found out twice (TIES and breadcrumbs sort the same numbers), and still each
    method is charged for all that it needs. There is no budget: the size tells which it takes.

    Args:
        ledger: entries by key.
    """

    def __init__(self, ledger: dict[Hashable, Entry]) -> None:
        super().__init__(budget=0)
        self.found_s = 0.0
        self._ledger = ledger
        self._mine: set[Hashable] = set()

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        if key not in self._mine:
            known = key in self._ledger
            if not known:
                start = time.perf_counter()
                made = make()
                self._ledger[key] = Entry(made, time.perf_counter() - start)
            entry = self._ledger[key]
            with self._lock:
                self._mine.add(key)
                self.size += nbytes(entry.value)
                self.found_s += entry.seconds if known else 0.0
        kept: Kept = self._ledger[key].value
        return kept


@dataclass(frozen=True, slots=True)
class Contender:
    """A method on some parents.

    Args:
        method: by name.
        parents: as many of the zoo's as the method takes.
        moved_bytes: that a merge reads and writes at least.
        account: what it remembers of them.
    """

    method: str
    parents: tuple[str, ...]
    moved_bytes: int
    account: Account

    def draw(self, rng: np.random.Generator) -> Recipe:
        """A candidate: whatever a search may search, anywhere in the range that is recommended.

        But for the scaling by depth, which any method can have, and what makes it another program.
        """
        searched = [
            parameter
            for parameter in methods[self.method].declaration.parameters
            if parameter.kind == "float" and parameter not in (*LINES, TRIM)
        ]
        values = {parameter.name: self._value(parameter, rng) for parameter in searched}
        seed = int(rng.integers(1 << 31))
        return Recipe(method=self.method, parents=self.parents, parameters=values, seed=seed)

    def _value(self, parameter: Parameter, rng: np.random.Generator) -> Value:
        low, high = parameter.low, parameter.high
        if parameter.log:
            low, high = math.log(low), math.log(high)
        drawn = rng.uniform(low, high, size=len(self.parents))
        values = tuple((np.exp(drawn) if parameter.log else drawn).tolist())
        return (values,) if parameter.per_parent else values[0]


class Workbench:
    """One resident model that methods take turns to write over.

    Args:
        zoo: no tokenizer is needed.
        device: of model and parents.
    """

    def __init__(self, zoo: Zoo, *, device: str = "cpu") -> None:
        self.device = device
        self.parents = Parents(zoo, device)
        self.model = empty_model(Path(zoo.base), zoo.dtype, device)
        self.model_bytes = sum(weight.nbytes for weight in self.model.parameters())
        self.materializer = Materializer(self.parents, self.model)
        self._ledger: dict[Hashable, Entry] = {}
        self._touch()

    def contender(self, method: str) -> Contender:
        """A method, before its first candidate."""
        declaration = methods[method].declaration
        parents = tuple(name for name, _ in self.parents.zoo.parents)[: declaration.maximum_parents]
        models = len(parents) + declaration.uses_base + 1
        return Contender(method, parents, models * self.model_bytes, Account(self._ledger))

    def merge_seconds(self, contender: Contender, recipe: Recipe) -> float:
        """How long a candidate takes."""
        self.parents.memo = contender.account
        return self.seconds(lambda: self.materializer.materialize(recipe))

    def seconds(self, work: Callable[[], object]) -> float:
        """How long anything takes on the device."""
        self._synchronize()
        start = time.perf_counter()
        work()
        self._synchronize()
        return time.perf_counter() - start

    def _touch(self) -> None:
        """Bring every page to where merges find it: otherwise the first method would pay."""
        models = (BASE, *(name for name, _ in self.parents.zoo.parents))
        for tensor in self.parents.layout.tensors:
            for model in models:
                self.parents.tensor(model, tensor.name).view(-1)[::_STRIDE].sum()
        for weight in self.model.parameters():
            weight.zero_()

    def _synchronize(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


@dataclass(slots=True)
class _Taken:
    """Seconds of the first turn, and of those that count."""

    first_s: float = 0.0
    turns_s: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        if self.first_s:
            self.turns_s.append(seconds)
        else:
            self.first_s = seconds

    @property
    def median_s(self) -> float:
        return statistics.median(self.turns_s)

    def times(self, other: _Taken) -> float:
        """Median ratio to another, round by round."""
        pairs = zip(self.turns_s, other.turns_s, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


class _PlainCopy:
    """Copies between two buffers that are always the same."""

    def __init__(self, moved_bytes: int, device: str) -> None:
        size = min(moved_bytes // 2, _BUFFER_BYTES)
        self._source, self._target = (_full(size, value, device) for value in (1, 0))

    def move(self, moved_bytes: int) -> None:
        """Read half of these bytes, and write the other half."""
        left = moved_bytes // 2
        while left:
            part = min(left, self._source.numel())
            self._target[:part].copy_(self._source[:part])
            left -= part


def _full(size: int, value: int, device: str) -> Tensor:
    return torch.full((size,), value, dtype=torch.uint8, device=device)


def _speed(contender: Contender, taken: _Taken, copy: _Taken, linear: _Taken) -> Speed:
    return Speed(
        method=contender.method,
        parents=len(contender.parents),
        candidate_ms=taken.median_s * 1e3,
        gb_per_s=contender.moved_bytes / taken.median_s / 1e9,
        times_copy=taken.times(copy),
        times_linear=taken.times(linear),
        first_s=taken.first_s + contender.account.found_s,
        kept_mb=contender.account.size / 1e6,
    )
