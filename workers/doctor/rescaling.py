"""Take back factors that were moved between tensors: the same function, near to the base again.

The base is the anchor: a factor is what makes a tensor as near to the base's as it can be. What the
fine-tune itself learned in that one direction goes with it, and the function does not notice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from workers.doctor import symmetry
from workers.doctor.diagnosis import Read
from workers.doctor.sites import Site


@dataclass(frozen=True, slots=True)
class Scale:
    """Factors of the slices of a tensor along one axis."""

    axis: int
    factors: Tensor = field(repr=False)

    def apply(self, tensor: Tensor) -> Tensor:
        """A copy, multiplied in float64 and rounded once."""
        shape = [1] * tensor.dim()
        shape[self.axis] = -1
        return (tensor.double() * self.factors.view(shape)).to(tensor.dtype)


def unfolded(site: Site, base: Read, model: Read) -> dict[str, Scale]:
    """The base's norm, and its factors back in the columns of the projections behind it."""
    if site.norm is None:
        return {}
    factor = symmetry.fold(base(site.norm), model(site.norm))
    behind = {site.weights[part]: Scale(1, factor) for part in site.after_norm}
    return {site.norm: Scale(0, 1 / factor), **behind}


def unscaled(site: Site, base: Read, model: Read) -> dict[str, Scale]:
    """Rows of ``up`` as long as the base's, by least squares, and ``down`` by the inverse."""
    ours, theirs = (read(site.weights["up"]).double() for read in (base, model))
    squared = theirs.square().sum(dim=1)
    factor = (ours * theirs).sum(dim=1) / squared
    factor = torch.where(factor.isfinite() & (factor != 0), factor, 1.0)
    rows = {name: Scale(0, factor) for name in site.of_part("up")}
    return {**rows, site.weights["down"]: Scale(1, 1 / factor)}
