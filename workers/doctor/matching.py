"""Put the neurons and heads of a model back into the order of the base's: the same function.

Weight matching as in Ainsworth et al. 2023 (arXiv:2209.04836, *Git Re-Basin*): the permutation of a
model that has the largest inner product with the base, found by linear assignment. Without
permutations of the residual stream the MLPs and attentions of a Llama-like model are independent of
each other, so that one assignment for each is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from workers.doctor.diagnosis import Read
from workers.doctor.sites import Heads, Site

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Order:
    """Where the slices of a tensor along one axis come from: slice i is slice ``places[i]``."""

    axis: int
    places: Tensor = field(repr=False)

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves."""
        return torch.equal(self.places, torch.arange(self.places.numel()))

    def apply(self, tensor: Tensor) -> Tensor:
        """A copy with the slices in this order."""
        return tensor.index_select(self.axis, self.places.to(tensor.device))


def orders(sites: Sequence[Site], base: Read, model: Read, heads: Heads | None) -> dict[str, Order]:
    """The order of every tensor that has to be permuted, by name; none that are in place.

    Attentions are left alone where the heads are not known.
    """
    found: dict[str, Order] = {}
    for site in sites:
        ours = {part: base(name) for part, name in site.weights.items()}
        theirs = {part: model(name) for part, name in site.weights.items()}
        if not site.is_attention:
            found |= _of_mlp(site, match_neurons(ours, theirs))
        elif heads is not None:
            found |= _of_attention(site, match_heads(ours, theirs, heads), heads)
    return {name: order for name, order in found.items() if not order.is_identity}


def match_neurons(base: Weights, model: Weights) -> Tensor:
    """(inter,) for every neuron of the base, the model's neuron that belongs there.

    Unlike in the paper each neuron counts by its directions alone, and those of ``up`` and ``down``
    without their signs: a factor between the two is free, and must not hide a permutation.
    """
    terms = [
        _cosines(base["gate"], model["gate"]),
        np.abs(_cosines(base["up"], model["up"])),
        np.abs(_cosines(base["down"].T, model["down"].T)),
    ]
    return torch.from_numpy(_assignment(np.sum(terms, axis=0)))


def match_heads(base: Weights, model: Weights, heads: Heads) -> tuple[Tensor, Tensor]:
    """(groups,) and (heads,): the model's groups and query heads that belong where the base's are.

    A query head moves with its group, and may also move inside of it: what two groups have in
    common contains the best assignment of their query heads.
    """
    query = _similarity(_heads(base["q"], heads.count), _heads(model["q"], heads.count)) + (
        _similarity(_heads(base["o"].T, heads.count), _heads(model["o"].T, heads.count))
    )
    group = _similarity(_heads(base["k"], heads.groups), _heads(model["k"], heads.groups)) + (
        _similarity(_heads(base["v"], heads.groups), _heads(model["v"], heads.groups))
    )
    n, repeats = heads.groups, heads.repeats
    blocks = query.reshape(n, repeats, n, repeats).transpose(0, 2, 1, 3)
    inside = np.array([[_assignment(block) for block in row] for row in blocks])
    shared = np.take_along_axis(blocks, inside[..., None], axis=3).sum(axis=(2, 3))
    groups = _assignment(group + shared)
    queries = [groups[g] * repeats + inside[g, groups[g]] for g in range(n)]
    return torch.from_numpy(groups), torch.from_numpy(np.concatenate(queries))


def _of_mlp(site: Site, places: Tensor) -> dict[str, Order]:
    found = {site.weights["down"]: Order(1, places)}
    for part in ("gate", "up"):
        found |= {name: Order(0, places) for name in site.of_part(part)}
    return found


def _of_attention(site: Site, places: tuple[Tensor, Tensor], heads: Heads) -> dict[str, Order]:
    group, query = (_rows(of, heads.size) for of in places)
    found = {site.weights["o"]: Order(1, query)}
    for part, rows in (("q", query), ("k", group), ("v", group)):
        found |= {name: Order(0, rows) for name in site.of_part(part)}
    return found


def _rows(places: Tensor, size: int) -> Tensor:
    """Heads to rows."""
    return (places[:, None] * size + torch.arange(size)).reshape(-1)


def _heads(rows: Tensor, count: int) -> Tensor:
    """(count, everything of a head)."""
    return rows.reshape(count, -1)


def _similarity(base: Tensor, model: Tensor) -> NDArray[np.float64]:
    """(n, n) inner products of the rows, over the norms of the matrices."""
    wide = torch.promote_types(base.dtype, torch.float32)
    ours, theirs = base.to(wide), model.to(wide)
    size = max(float(ours.norm() * theirs.norm()), torch.finfo(wide).tiny)
    return (ours @ theirs.T / size).double().numpy()


def _cosines(base: Tensor, model: Tensor) -> NDArray[np.float64]:
    """(n, n) between the rows."""
    wide = torch.promote_types(base.dtype, torch.float32)
    ours, theirs = (normalize(rows.to(wide), dim=1) for rows in (base, model))
    return (ours @ theirs.T).double().numpy()


def _assignment(similarity: NDArray[np.float64]) -> NDArray[np.intp]:
    """(n,) the column of each row, each column once, with the largest sum.

    Where the best columns of all rows differ they are that: no assignment can have a larger sum.
    For large matrices this saves minutes.
    """
    best: NDArray[np.intp] = similarity.argmax(axis=1)
    if np.unique(best).size == best.size:
        return best
    columns: NDArray[np.intp] = linear_sum_assignment(similarity, maximize=True)[1]
    return columns
