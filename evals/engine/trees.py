"""What the model reads, and how readings that begin alike are laid out as one tree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evals.engine.encoding import Pair, Tokens


@dataclass(slots=True)
class Reading:
    """Tokens that the model reads once for every continuation whose prediction needs just them.

    Args:
        tokens: a context, and its continuation but for the last token.
        scored: (unit, continuation) pairs; a continuation is what the last positions predict.
    """

    tokens: Tokens
    scored: list[tuple[int, Tokens]] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """How many of its last positions are projected to the vocabulary."""
        return max(len(continuation) for _, continuation in self.scored)

    @property
    def unscored(self) -> int:
        """How many tokens stand before the first position that is projected."""
        return len(self.tokens) - self.depth


def readings(pairs: Iterable[Pair], length: int) -> list[Reading]:
    """Distinct readings in lexicographic order, so that neighbours share the most.

    Args:
        pairs: of units, in their order.
        length: how many tokens the model reads; of more, it reads the last.
    """
    distinct: dict[Tokens, Reading] = {}
    for unit, (context, continuation) in enumerate(pairs):
        tokens = (context + continuation[:-1])[-length:]
        distinct.setdefault(tokens, Reading(tokens)).scored.append((unit, continuation))
    return [distinct[tokens] for tokens in sorted(distinct)]


def shared(one: Tokens, other: Tokens) -> int:
    """How many first tokens two readings have in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class Tree:
    """Readings as one row: every node a token, parents before children, subtrees together.

    So node i sees node j, itself or an ancestor, exactly when ``j <= i < exits[j]``.

    Args:
        tokens: of the nodes.
        places: of the nodes in their readings, what is before the tree counted.
        exits: of each node, the first later node that is not below it.
        ends: of each reading, its last nodes, as many as it has scored positions.
    """

    tokens: Sequence[int]
    places: Sequence[int]
    exits: Sequence[int]
    ends: Sequence[Sequence[int]]

    @property
    def branches(self) -> bool:
        """Whether any node is not below the one before it."""
        return any(exit_ < len(self.tokens) for exit_ in self.exits)


def tree(readings: Sequence[Reading], start: int = 0) -> Tree:
    """Lay out readings without their first ``start`` tokens, which they share.

    Args:
        readings: in lexicographic order.
        start: no larger than ``unscored`` of any.
    """
    tokens: list[int] = []
    places: list[int] = []
    exits: list[int] = []
    ends: list[Sequence[int]] = []
    path: list[int] = []
    before: Tokens = ()
    for reading in readings:
        kept = max(shared(before, reading.tokens) - start, 0)
        for node in path[kept:]:
            exits[node] = len(tokens)
        del path[kept:]
        for place in range(start + kept, len(reading.tokens)):
            path.append(len(tokens))
            tokens.append(reading.tokens[place])
            places.append(place)
            exits.append(0)
        ends.append(tuple(path[-reading.depth :]))
        before = reading.tokens
    for node in path:
        exits[node] = len(tokens)
    return Tree(tokens, places, exits, ends)
