"""Which readings share a row, and which first tokens are computed once for many rows.

Both are decided by a rough model of what a pass costs, in units of a token that attends to nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evals.engine.encoding import Tokens
from evals.engine.trees import Reading, shared

# What another forward pass costs beside its tokens, in tokens.
PASS = 50
# Stems that continue each other; a chain of readings that each continue the last has no end.
_NESTED = 8


@dataclass(frozen=True, slots=True)
class Cost:
    """What rows cost a model of some width, in tokens, and how large they may be.

    Fitted to a transformer on a CPU.

    Args:
        width: of the hidden states. A layer multiplies a token by about 12 width^2 numbers, and
            compares it with others at 2 width each, which goes at about half the speed.
        tokens: of a row with several readings, at most.
        positions: of such a row that are projected to the vocabulary, at most.
    """

    width: int
    tokens: int
    positions: int

    def row(self, tokens: int, behind: int = 0) -> float:
        """Of one row behind a stem, whose keys and values are copied for it."""
        copied = 10 * behind / self.width
        return tokens * (1 + (tokens + behind) / (3 * self.width)) + copied


@dataclass(frozen=True, slots=True)
class Row:
    """Readings that one row of a batch holds, in lexicographic order.

    Args:
        readings: that begin with the stem.
        width: how many tokens the row takes.
    """

    readings: Sequence[Reading]
    width: int


@dataclass(frozen=True, slots=True)
class Group:
    """Rows behind the same stem.

    Args:
        stem: the first tokens of all the readings, whose keys and values are computed once.
    """

    stem: Tokens
    rows: Sequence[Row]


def packed(readings: Sequence[Reading], cost: Cost) -> list[Group]:
    """Rows and stems for readings, each group after the one whose stem it continues.

    Args:
        readings: in lexicographic order.
        cost: of rows.
    """
    return list(_divided(readings, (), cost, _NESTED)) if readings else []


def _divided(readings: Sequence[Reading], stem: Tokens, cost: Cost, levels: int) -> Iterator[Group]:
    """One group, and after it those whose own longer stem pays off."""
    common = shared(readings[0].tokens, readings[-1].tokens)
    longer = min(common, *(reading.unscored for reading in readings))
    if longer > len(stem) and _pays(readings, len(stem), longer, cost):
        stem = readings[0].tokens[:longer]
    rest: list[Reading] = []
    later: list[Sequence[Reading]] = []
    for _, below in itertools.groupby(readings, key=lambda r: r.tokens[common : common + 1]):
        part = list(below)
        if levels and len(part) < len(readings) and _might_pay(part, len(stem)):
            later.append(part)
        else:
            rest += part
    groups = [group for part in later for group in _divided(part, stem, cost, levels - 1)]
    for group in groups:
        if group.stem == stem:  # none of its own paid off
            rest += [reading for row in group.rows for reading in row.readings]
    rest.sort(key=lambda reading: reading.tokens)
    yield Group(stem, list(_rows(rest, len(stem), cost)))
    yield from (group for group in groups if group.stem != stem)


def _might_pay(readings: Sequence[Reading], start: int) -> bool:
    """Whether a longer stem could save more than its own pass, at the very best."""
    first, last = readings[0].tokens, readings[-1].tokens
    return len(readings) > 1 and (shared(first, last) - start) * (len(readings) - 1) > 2 * PASS


def _pays(readings: Sequence[Reading], start: int, end: int, cost: Cost) -> bool:
    """Whether a stem of ``end`` tokens costs less than to read on behind one of ``start``."""

    def total(behind: int) -> float:
        return sum(cost.row(row.width, behind) for row in _rows(readings, behind, cost))

    # The stem's own pass, and one more batch that is not full.
    extra = cost.row(end - start, start) + 2 * PASS
    return total(end) + extra < total(start)


def _rows(readings: Sequence[Reading], start: int, cost: Cost) -> Iterator[Row]:
    """Neighbours join a row as long as what they share outweighs the attention of a wider row."""
    members: list[Reading] = []
    width = positions = 0
    for reading in readings:
        alone = len(reading.tokens) - start
        if members:
            begun = max(shared(members[-1].tokens, reading.tokens), start)
            together = width + len(reading.tokens) - begun
            apart = cost.row(width, start) + cost.row(alone, start)
            fits = together <= cost.tokens and positions + reading.depth <= cost.positions
            if fits and cost.row(together, start) <= apart:
                members.append(reading)
                width, positions = together, positions + reading.depth
                continue
            yield Row(members, width)
        members, width, positions = [reading], alone, reading.depth
    if members:
        yield Row(members, width)
