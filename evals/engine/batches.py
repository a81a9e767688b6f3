"""Rows as tensors: forward passes of as many tokens as a budget allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from evals.engine.encoding import Tokens
from evals.engine.packing import PASS, Row
from evals.engine.trees import tree

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One forward pass.

    Args:
        stem: what all rows stand behind; its keys and values are computed before.
        rows: what it was made from.
        inputs: (rows, length) int64, padded on the right.
        places: (rows, length) int64, of each token in what it continues.
        exits: (rows, length) int64 of `Tree`, a padding's its next; None where every token
            follows the one before it and there is no stem, so that the model's own mask will do.
        row, column: (positions,) int64, what is projected to the vocabulary.
        position, token, owner, place: (tokens,) int64; of every scored token its index among the
            positions, its id, the index in ``units`` of what it is part of, and its place in that.
        units: of the plan.
        table: number of units, and length of the longest.
    """

    stem: Tokens
    rows: Sequence[Row]
    inputs: Tensor
    places: Tensor
    exits: Tensor | None
    row: Tensor
    column: Tensor
    position: Tensor
    token: Tensor
    owner: Tensor
    place: Tensor
    units: Sequence[int]
    table: tuple[int, int]

    def halves(self) -> list[Batch]:
        """Two that do the same; itself alone when it is a single reading."""
        rows = self.rows
        if len(rows) == 1:
            rows = [
                Row(part, len(tree(part, len(self.stem)).tokens))
                for part in halved(rows[0].readings)
            ]
        return [batch_of(part, self.stem, self.inputs.device) for part in halved(rows)]


def batches(
    rows: Sequence[Row],
    stem: Tokens,
    device: torch.device,
    *,
    token_limit: int,
    position_limit: int,
) -> Iterator[Batch]:
    """Rows of similar width together, the widest first, so that padding and passes cost least.

    Args:
        rows: behind the stem.
        stem: of all the rows.
        device: of the tensors.
        token_limit: of inputs, padding counted; a single row may have more.
        position_limit: of what is projected to the vocabulary; likewise.
    """
    ordered = sorted(rows, key=lambda row: (-row.width, row.readings[0].tokens))
    scored = [sum(reading.depth for reading in row.readings) for row in ordered]
    # Of the last rows, from each on: what they cost at least, and where their first batch ends.
    costs = [0.0] * (len(ordered) + 1)
    ends = [0] * len(ordered)
    for start in reversed(range(len(ordered))):
        width, positions = ordered[start].width, 0
        costs[start] = math.inf
        for end in range(start + 1, len(ordered) + 1):
            tokens = (end - start) * width
            positions += scored[end - 1]
            if end > start + 1 and (tokens > token_limit or positions > position_limit):
                break
            if PASS + tokens + costs[end] <= costs[start]:
                costs[start] = PASS + tokens + costs[end]
                ends[start] = end
    start = 0
    while start < len(ordered):
        yield batch_of(ordered[start : ends[start]], stem, device)
        start = ends[start]


def batch_of(rows: Sequence[Row], stem: Tokens, device: torch.device) -> Batch:
    """These rows in one pass."""
    trees = [tree(row.readings, len(stem)) for row in rows]
    length = max(len(tree.tokens) for tree in trees)
    inputs, places, exits = [], [], []
    columns: dict[tuple[int, int], int] = {}  # (row, column) -> index among the positions
    tokens: list[tuple[int, int, int, int]] = []  # position, token, owner, place
    units: list[int] = []
    longest = 0
    for index, (row, one) in enumerate(zip(rows, trees, strict=True)):
        free = length - len(one.tokens)
        inputs.append([*one.tokens, *[0] * free])
        places.append([*one.places, *[0] * free])
        exits.append([*one.exits, *range(len(one.tokens) + 1, length + 1)])
        for reading, nodes in zip(row.readings, one.ends, strict=True):
            at = [columns.setdefault((index, node), len(columns)) for node in nodes]
            for unit, continuation in reading.scored:
                positions = at[-len(continuation) :]
                owner = len(units)
                tokens += (
                    (position, token, owner, place)
                    for place, (position, token) in enumerate(
                        zip(positions, continuation, strict=True)
                    )
                )
                units.append(unit)
                longest = max(longest, len(continuation))
    row_of, column_of = torch.tensor(list(columns), device=device).unbind(dim=1)
    position_of, token_of, owner_of, place_of = torch.tensor(tokens, device=device).unbind(dim=1)
    masked = bool(stem) or any(one.branches for one in trees)
    return Batch(
        stem=stem,
        rows=rows,
        inputs=torch.tensor(inputs, device=device),
        places=torch.tensor(places, device=device),
        exits=torch.tensor(exits, device=device) if masked else None,
        row=row_of,
        column=column_of,
        position=position_of,
        token=token_of,
        owner=owner_of,
        place=place_of,
        units=units,
        table=(len(units), longest),
    )


def halved(items: Sequence[Item]) -> list[Sequence[Item]]:
    """In two; in one part when there is only one item."""
    middle = len(items) // 2
    return [part for part in (items[:middle], items[middle:]) if part]
