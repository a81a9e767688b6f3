"""OPCM: merge one parent after the other, each in directions that are still free."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from search.layout import is_head
from search.method import MethodDeclaration, Parameter
from workers.merging.directions import add_deltas, add_whole_directions, whole_directions
from workers.merging.matrices import Svd, svd
from workers.merging.merge_method import Sources, merge_method
from workers.merging.whole_model import blocks, finite_deltas

_DECLARATION = MethodDeclaration(
    name="opcm",
    summary="Add parents in sequence, each without what lies in the directions of those before.",
    source="Tang et al. 2025, arXiv:2501.09522",
    parameters=(
        Parameter(
            "lambda",
            "factor of the merged task vector, whose norm is the mean of the parents' norms; a "
            "searched one costs nothing",
            default=1.0,
            low=0.3,
            high=2.0,
        ),
        Parameter(
            "alpha",
            "share of the singular values whose directions are closed to later parents, in [0, 1]",
            default=0.5,
            low=0.3,
            high=0.95,
            minimum=0.0,
            maximum=1.0,
        ),
        Parameter(
            "order",
            "numbers of the parents in the order in which they are merged, from 0; any other "
            "numbers mean their ranks, and equal ones the order of the parents",
            per_parent=True,
            default=0.0,
        ),
        Parameter(
            "head",
            "project the output head as well, as the authors' program does; else it is summed",
            "flag",
            default=True,
        ),
    ),
    uses_base=True,
    cost="prepared",
    parent_values=None,
)


@merge_method(_DECLARATION)
def opcm(
    out: Tensor,
    sources: Sources,
    *,
    lambda_: float,
    alpha: float,
    order: Sequence[float],
    head: bool,
) -> None:
    """The sequence of the paper's algorithm.

    Its running norm cancels out of every step but the last: the projections do not depend on the
    scale of what is merged so far, so that only the final norm of the whole model is needed.
    """
    merge = _Sequence(alpha, _ranks(order), head)
    scale = sources.remember_model(("opcm", merge), lambda: merge.scale(sources))
    if merge.projects(sources):
        add_whole_directions(out, sources, merge.what, merge.find, (lambda_ * scale,))
    else:
        add_deltas(out, sources, [lambda_ * scale] * len(sources.parents))


def _ranks(numbers: Sequence[float]) -> tuple[int, ...]:
    """Of each number, from 0; a permutation is its own ranks."""
    by_size = sorted(range(len(numbers)), key=lambda place: numbers[place])
    return tuple(sorted(range(len(numbers)), key=lambda place: by_size[place]))


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One setting: the share of closed directions, the order of the parents, and the head."""

    alpha: float
    order: tuple[int, ...]
    head: bool

    @property
    def what(self) -> Hashable:
        """All that the direction of a matrix depends on."""
        return ("opcm", self.alpha, self.order)

    def projects(self, sources: Sources) -> bool:
        """Whether this tensor is projected, and not just summed."""
        head = self.head and sources.kind == "embedding" and is_head(sources.name)
        return head or sources.kind == "matrix"

    def scale(self, sources: Sources) -> float:
        """What gives the merged task vector of the model the mean norm of the parents'."""
        merged, norms = 0.0, [0.0] * len(sources.parents)
        for tensor in sources.model():
            if self.projects(tensor):
                (direction,) = whole_directions(tensor, self.what, self.find)
                merged += _squares(direction)
            for part in blocks([tensor]):
                deltas = finite_deltas(part)
                norms = [norm + _squares(d) for norm, d in zip(norms, deltas, strict=True)]
                merged += 0.0 if self.projects(tensor) else _squares(deltas.sum(0))
        mean = sum(math.sqrt(norm) for norm in norms) / len(norms)
        return mean / math.sqrt(merged) if merged > 0 else 0.0

    def find(self, matrix: Sources) -> tuple[Tensor]:
        """(rows, columns): the first task vector, and of the others what is in free directions."""
        first, *others = (finite_deltas(matrix)[place] for place in self.order)
        merged = first
        for delta in others:
            merged = merged + _free(delta, svd(merged), self.alpha)
        return (merged.contiguous(),)


def _free(delta: Tensor, merged: Svd, alpha: float) -> Tensor:
    """A task vector without what lies in directions of the merged one.

    Closed are all pairs of the leading directions, which hold a share ``alpha`` of the singular
    values, and each direction paired with itself.
    """
    share = merged.s.cumsum(0) / merged.s.sum()
    leading = merged.first(int((share <= alpha).count_nonzero()))
    image = delta @ merged.v
    closed = torch.diag((merged.u * image).sum(0))
    closed[: leading.rank, : leading.rank] = leading.u.T @ image[:, : leading.rank]
    return delta - merged.u @ closed @ merged.v.T


def _squares(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
