"""Inner products between parents: all that spherical methods and Model Stock know of the weights.

They are found once. A candidate then only asks for other coefficients of the same parents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from workers.kernels.row_sum import Axis, as_rows
from workers.merging.merge_method import NotMergeable, Sources

# What has an inner product of its own: the whole tensor, or each vector along one of its axes.
Vectors = Literal["tensor"] | Axis

# Elements of one model that are looked at together, in float64: a few megabytes for all of them on
# a CPU, enough to keep a GPU busy.
_BLOCK = 1 << 16
_GPU_BLOCK = 1 << 24


def cosines(sources: Sources, vectors: Vectors, *, around_base: bool) -> tuple[Tensor, Tensor]:
    """Norms of the parents' vectors and cosines between them, remembered.

    Args:
        sources: base and parents of one tensor.
        vectors: which vectors; v is the number of them.
        around_base: of task vectors, not of the weights themselves.

    Returns:
        (k, v) norms and (k, k, v) cosines, in float64: 1 between a vector and itself, but 0
        wherever one of two vectors is 0, on the diagonal too. Those of whole tensors, where v is 1,
        are on the CPU.

    Raises:
        NotMergeable: a model holds values that are not finite.
    """
    return sources.remember(
        ("cosines", vectors, around_base), lambda: _cosines(sources, vectors, around_base)
    )


def _cosines(sources: Sources, vectors: Vectors, around_base: bool) -> tuple[Tensor, Tensor]:
    gram = _gram(sources, vectors, around_base)
    if vectors == "tensor":
        gram = gram.cpu()
    if not gram.isfinite().all():
        raise NotMergeable(f"'{sources.name}' is not finite in one of the models")
    norms = gram.diagonal().sqrt().T
    zero = norms == 0.0
    length = norms.masked_fill(zero, 1.0)
    cosine = (gram / length / length[:, None]).clamp_(-1.0, 1.0)
    cosine.diagonal().copy_((~zero).T)
    return norms, cosine


def _gram(sources: Sources, vectors: Vectors, around_base: bool) -> Tensor:
    """(k, k, v) inner products; products and sums are taken in float64."""
    along: Axis = "last" if vectors == "tensor" else vectors
    base, *parents = (
        t.reshape(1, -1) if vectors == "tensor" else as_rows(t, along)
        for t in (sources.base, *sources.parents)
    )
    rows, columns = base.shape
    count = rows if along == "last" else columns
    gram = torch.zeros((len(parents), len(parents), count), dtype=torch.float64, device=base.device)
    block_size = _BLOCK if base.device.type == "cpu" else _GPU_BLOCK
    for part in _blocks(rows, columns, block_size):
        block = torch.stack([parent[part].to(torch.float64) for parent in parents])
        if around_base:
            block -= base[part]
        if along == "last":
            gram[:, :, part[0]] += torch.einsum("irc,jrc->ijr", block, block)
        else:
            gram[:, :, part[1]] += torch.einsum("irc,jrc->ijc", block, block)
    return gram


def _blocks(rows: int, columns: int, size: int) -> Iterator[tuple[slice, slice]]:
    wide = max(1, min(columns, size))
    high = size // wide
    for row in range(0, rows, high):
        for column in range(0, columns, wide):
            yield slice(row, row + high), slice(column, column + wide)
