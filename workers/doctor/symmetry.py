"""Tests for changes of weights that leave the function alone: which one was made, if any.

Each compares matrices of a model with the base's by something that the change cannot touch, so that
a fine-tune still shows as a small difference while the change itself drops out. Sums in float64.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from workers.doctor.sites import Heads

# Rows and heads of a fine-tune stay within a cosine of 0.98 of the base's (honest cases: 0.99),
# and those of another place are nearly orthogonal to it.
SAME = 0.7
# A product, or a row, that the change was taken out of: nearly an honest fine-tune again.
HONEST = 0.9
# Spread of logarithms of factors that are all 1 in a fine-tune, up to a few per cent.
SPREAD = 0.1

_SAMPLE = 256
_MOVED = 0.01

Weights = Mapping[str, Tensor]


def moved_rows(base: Tensor, model: Tensor) -> float:
    """Share of the rows of a model that are another row of the base.

    Every row of a small matrix is looked at, and an even sample of a large one; each is compared
    with all rows of the base.

    Args:
        base: (n, m).
        model: (n, m).
    """
    n = base.shape[0]
    places = torch.linspace(0, n - 1, min(n, _SAMPLE)).round().long()
    cosines = _unit(model[places]) @ _unit(base).T
    best, place = cosines.max(dim=1)
    return float(((best > SAME) & (place != places)).double().mean())


def is_permuted_mlp(base: Weights, model: Weights) -> bool:
    """Whether neurons stand in another order: told by ``gate``, which may not be scaled."""
    return moved_rows(base["gate"], model["gate"]) > _MOVED


def is_permuted_heads(base: Weights, model: Weights, heads: Heads) -> bool:
    """Whether query heads, or groups of keys and values, stand in another order.

    One projection is enough: a permutation moves the heads of all.
    """
    counts = {"q": heads.count, "k": heads.groups, "v": heads.groups}
    return any(
        moved_rows(base[part].reshape(n, -1), model[part].reshape(n, -1)) > _MOVED
        for part, n in counts.items()
    )


def is_locked_vo(base: Weights, model: Weights, heads: Heads) -> bool:
    """Whether W_O W_V is the base's, head by head, although W_V and W_O are not.

    MergeLock (arXiv:2509.01548): (W_V, W_O) -> (B W_V, W_O B^-1) with an invertible B for each
    group of heads. Scaled heads (PaRaMS, arXiv:2503.07661) are a special case.
    """
    ours, theirs = _value_output(base, heads), _value_output(model, heads)
    return _product_cosine(ours, theirs) > HONEST


def is_locked_qk(base: Weights, model: Weights, heads: Heads) -> bool:
    """Whether W_Q^T W_K is the base's, head by head, although W_Q and W_K are not.

    (W_Q, W_K) -> (A^-T W_Q, A W_K). With rotary positions only those A keep the function that
    commute with every rotation, one complex number for each frequency: they keep this product too.
    """
    ours, theirs = _query_key(base, heads), _query_key(model, heads)
    return _product_cosine(ours, theirs) > HONEST


def is_scaled(base: Weights, model: Weights) -> bool:
    """Whether rows of ``up`` kept their directions but not their lengths or signs.

    The activation is linear in ``up``, so that a factor there and its inverse in the columns of
    ``down`` cancel.
    """
    inner = (_unit(base["up"]) * _unit(model["up"])).sum(dim=1)
    outer = (_unit(base["down"].T) * _unit(model["down"].T)).sum(dim=1)
    parallel = min(float(inner.abs().median()), float(outer.abs().median()))
    lengths = _log_ratio(base["up"].double().norm(dim=1), model["up"].double().norm(dim=1))
    wild = float(lengths.std()) > SPREAD or float((inner < 0).double().mean()) > SPREAD
    return parallel > HONEST and wild


def fold(base_norm: Tensor, norm: Tensor) -> Tensor:
    """(hidden,) factors that a norm's weights have taken over from the columns behind it."""
    factor = norm.double() / base_norm.double()
    return torch.where(factor.isfinite() & (factor != 0), factor, 1.0)


def is_folded(factor: Tensor, base: Tensor, model: Tensor) -> bool:
    """Whether the columns of a matrix have given up what its norm has taken.

    Norms of columns do not change with the order of the rows.

    Args:
        factor: (hidden,) of `fold`.
        base: (n, hidden).
        model: (n, hidden).
    """
    taken = factor.abs().log()
    given = _log_ratio(base.double().norm(dim=0), model.double().norm(dim=0))
    size = float(taken.square().mean().sqrt())
    return size > SPREAD and float((given + taken).square().mean().sqrt()) < size / 2


def _value_output(weights: Weights, heads: Heads) -> tuple[Tensor, Tensor]:
    """(heads, hidden, size) and (heads, size, hidden), one pair for each query head."""
    value = weights["v"].double().view(heads.groups, heads.size, -1)
    output = weights["o"].double().view(-1, heads.count, heads.size).transpose(0, 1)
    return output, value.repeat_interleave(heads.repeats, dim=0)


def _query_key(weights: Weights, heads: Heads) -> tuple[Tensor, Tensor]:
    query = weights["q"].double().view(heads.count, heads.size, -1).transpose(1, 2)
    key = weights["k"].double().view(heads.groups, heads.size, -1)
    return query, key.repeat_interleave(heads.repeats, dim=0)


def _product_cosine(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> float:
    """Cosine between two stacks of products of low rank, which are never multiplied out.

    <AB, CD> = sum((A^T C) * (B D^T)): matrices of the size of a head.
    """
    size = float((_inner(ours, ours) * _inner(theirs, theirs)) ** 0.5)
    return float(_inner(ours, theirs)) / size if size else 0.0


def _inner(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> Tensor:
    left, right = one[0].transpose(1, 2) @ two[0], one[1] @ two[1].transpose(1, 2)
    return (left * right).sum()


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return torch.nn.functional.normalize(wide, dim=1)


def _log_ratio(base: Tensor, model: Tensor) -> Tensor:
    ratio = (model / base).log()
    return torch.where(ratio.isfinite(), ratio, 0.0)
