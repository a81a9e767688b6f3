"""What methods share that look at a matrix as a linear map: its singular directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from search.method import Parameter

Solver = Literal["exact", "randomized"]

SVD = Parameter(
    "svd",
    "how the leading singular directions are found: by a full decomposition (exact), or in the "
    "range of a few products with random vectors (randomized): several times as fast for an eighth "
    "of the directions, but blurred where singular values are close",
    "choice",
    default="exact",
    choices=("exact", "randomized"),
)

# Directions beyond those asked for, and products with the matrix and its transpose: what makes the
# range that is searched hold the leading directions.
_SPARE = 10
_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Svd:
    """A thin singular value decomposition, cut where the matrix has no direction left.

    Args:
        u: (rows, rank).
        s: (rank,), positive and descending.
        v: (columns, rank).
    """

    u: Tensor
    s: Tensor
    v: Tensor

    @property
    def rank(self) -> int:
        """How many directions there are."""
        return self.s.numel()

    def first(self, count: int) -> Svd:
        """The ``count`` largest directions, or all if there are fewer."""
        return Svd(self.u[:, :count], self.s[:count], self.v[:, :count])

    def matrix(self) -> Tensor:
        """(rows, columns): the product."""
        return (self.u * self.s) @ self.v.T


def svd(matrix: Tensor, *, scale: float | None = None) -> Svd:
    """Decompose a finite (rows, columns) matrix, up to its numerical rank.

    Directions whose singular value is rounding noise are arbitrary: a method that gave weight to
    them would answer differently on every machine.

    Args:
        matrix: float32 or float64.
        scale: the singular value against which smallness is judged; the largest one if None.
    """
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    if s.numel():
        largest = float(s[0]) if scale is None else max(scale, float(s[0]))
        noise = largest * max(matrix.shape) * torch.finfo(matrix.dtype).eps
        rank = int((s > noise).count_nonzero())
    else:
        rank = 0
    return Svd(u[:, :rank], s[:rank], vh[:rank].T)


def leading(matrix: Tensor, count: int, solver: Solver) -> Svd:
    """The ``count`` largest singular directions, or all if there are fewer.

    Randomized: Halko, Martinsson & Tropp 2011 (arXiv:0909.4061), Algorithms 4.4 and 5.1. The random
    vectors are always the same ones, on every device.

    Args:
        matrix: finite (rows, columns), float32 or float64.
        count: how many.
        solver: how they are found.
    """
    rows, columns = matrix.shape
    if solver == "exact" or count + _SPARE >= min(rows, columns):
        return svd(matrix).first(count)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn((columns, count + _SPARE), generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(matrix @ start.to(matrix)).Q
    for _ in range(_ROUNDS):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
    inside = svd(basis.T @ matrix).first(count)
    return Svd(basis @ inside.u, inside.s, inside.v)


def orthogonal(stack: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns (rows, if it is wide): its polar factor.

    Within the space that the stack spans: of columns that depend on each other, what is common is
    shared out between them.
    """
    factors = svd(stack)
    return factors.u @ factors.v.T
