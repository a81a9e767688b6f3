"""How far a tensor has moved from the base's, in three numbers that take one pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.doctor.summary import Distance

# Elements. In chunks that stay in the cache the sums are fastest, and short enough for float32 to
# be right to six figures.
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Figures:
    """Squared norms of base, model and their difference, over one tensor or the sum of several.

    ``equal`` counts the elements of tensors that are the base's to the last bit.
    """

    base: float = 0.0
    model: float = 0.0
    delta: float = 0.0
    size: int = 0
    equal: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.base + other.base,
            self.model + other.model,
            self.delta + other.delta,
            self.size + other.size,
            self.equal + other.equal,
        )

    @property
    def delta_ratio(self) -> float:
        """Norm of the difference by that of the base; NaN where the base is zero."""
        return math.sqrt(self.delta / self.base) if self.base else math.nan

    @property
    def norm_ratio(self) -> float:
        """Norm of the model by that of the base; NaN where the base is zero."""
        return math.sqrt(self.model / self.base) if self.base else math.nan

    @property
    def cosine(self) -> float:
        """Between model and base; NaN where one of them is zero."""
        if not self.base or not self.model:
            return math.nan
        if not self.delta:
            return 1.0
        inner = (self.base + self.model - self.delta) / 2
        return max(-1.0, min(1.0, inner / math.sqrt(self.base * self.model)))

    @property
    def distance(self) -> Distance:
        """The ratios alone."""
        return Distance(
            delta_ratio=_finite(self.delta_ratio),
            cosine=_finite(self.cosine),
            norm_ratio=_finite(self.norm_ratio),
            frozen=self.equal / self.size if self.size else 0.0,
        )


def compare(base: Tensor, model: Tensor) -> Figures:
    """Figures of one tensor, both of one shape.

    Differences are taken in float32 (float64 for float64), and summed in float64 over chunks. The
    inner product is not summed: it follows from the three norms, and is least exact where it
    matters least, for vectors that are nearly parallel.
    """
    wide = torch.promote_types(torch.promote_types(base.dtype, model.dtype), torch.float32)
    first, second = base.reshape(-1), model.reshape(-1)
    ours = theirs = moved = 0.0
    for start in range(0, base.numel(), _CHUNK):
        mine = first[start : start + _CHUNK].to(wide)
        other = second[start : start + _CHUNK].to(wide)
        ours += _squared(mine)
        theirs += _squared(other)
        moved += _squared(other - mine)
    equal = not moved and torch.equal(base, model)
    return Figures(ours, theirs, moved, base.numel(), base.numel() if equal else 0)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _squared(vector: Tensor) -> float:
    return float(torch.dot(vector, vector))
