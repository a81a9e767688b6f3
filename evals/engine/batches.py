"""Rows as tensors: forward passes of as many tokens as a budget allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evals.engine.encoding import Tokens
from evals.engine.packing import Row
from evals.engine.trees import tree


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
        """Two that do the same; itself alone when it is a single row."""
        middle = len(self.rows) // 2
        parts = [part for part in (self.rows[:middle], self.rows[middle:]) if part]
        return [batch_of(part, self.stem, self.inputs.device) for part in parts]


def batches(
    rows: Sequence[Row],
    stem: Tokens,
    device: torch.device,
    *,
    token_limit: int,
    position_limit: int,
) -> Iterator[Batch]:
    """Rows of similar width together, the widest first.

    Args:
        rows: behind the stem.
        stem: of all the rows.
        device: of the tensors.
        token_limit: of inputs, padding counted; a single row may have more.
        position_limit: of what is projected to the vocabulary; likewise.
    """
    group: list[Row] = []
    positions = 0
    for row in sorted(rows, key=lambda row: (-row.width, row.readings[0].tokens)):
        scored = sum(reading.depth for reading in row.readings)
        over = (len(group) + 1) * (group or [row])[0].width > token_limit
        if group and (over or positions + scored > position_limit):
            yield batch_of(group, stem, device)
            group, positions = [], 0
        group.append(row)
        positions += scored
    if group:
        yield batch_of(group, stem, device)


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
