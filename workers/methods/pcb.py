"""PCB-Merging: entries compete within a parent and between parents; the losers are dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.directions import add_directions
from workers.merging.merge_method import Sources, merge_method
from workers.merging.whole_model import (
    blocks,
    by_element,
    common_dtype,
    finite_deltas,
    order_statistics,
)

Variant = Literal["pcb_ES.py", "pcb-merging.py", "pcb.py"]
Limits = tuple[tuple[float, float], ...]

# As in the authors' programs: where no parent has a score, nothing is added.
_NO_SCORE = 1e-12

_DECLARATION = MethodDeclaration(
    name="pcb",
    summary="Score each change within its parent and against the others, keep those that win.",
    source="Du et al. 2024, arXiv:2410.02396",
    parameters=(
        Parameter(
            "lambda",
            "factor of what is kept of a parent; a searched one costs nothing",
            per_parent=True,
            default=1.2,
            low=0.5,
            high=1.5,
        ),
        Parameter(
            "pcb_ratio",
            "fraction of the whole model's entries that are kept, in (0, 1]",
            default=0.1,
            low=0.01,
            high=0.5,
            minimum=1e-6,
            maximum=1.0,
            log=True,
        ),
        Parameter(
            "variant",
            "which of the authors' programs: they balance parents by the products of normalized "
            "magnitudes (pcb_ES.py), by a task vector times the sum of all (pcb-merging.py), or "
            "times the sum of normalized magnitudes (pcb.py, for images)",
            "choice",
            default="pcb_ES.py",
            choices=("pcb_ES.py", "pcb-merging.py", "pcb.py"),
        ),
        Parameter(
            "clamp",
            "fraction of the smallest and of the largest magnitudes that are set to the quantile; "
            "0.01 in pcb_ES.py and pcb.py, 0.0001 in pcb-merging.py",
            default=0.01,
            low=1e-4,
            high=0.05,
            minimum=0.0,
            maximum=0.49,
            log=True,
        ),
    ),
    uses_base=True,
    cost="prepared",
    directions=(0, 1),
    parent_values=None,
    presets={"paper": {"variant": "pcb-merging.py", "clamp": 1e-4}},
)


@merge_method(_DECLARATION)
def pcb(
    out: Tensor,
    sources: Sources,
    *,
    lambda_: Sequence[float],
    pcb_ratio: float,
    variant: Variant,
    clamp: float,
) -> None:
    """Base plus the sum of lambda times what each parent's entries are worth.

    The order statistics are exact and those of the whole model. A parent whose magnitudes are all
    equal, or whose scores are, has no competition to decide and adds nothing (the authors' programs
    divide 0 by 0 there).
    """
    what = ("pcb", pcb_ratio, variant, clamp)

    def find() -> tuple[Tensor, ...]:
        competition = sources.remember_model(
            what, lambda: _compete(sources, pcb_ratio, variant, clamp)
        )
        return by_element(sources, len(sources.parents), competition.kept)

    add_directions(out, sources, what, find, lambda_)


@dataclass(frozen=True, slots=True)
class _Competition:
    """What the whole model says about one setting.

    Args:
        variant: how parents compete with each other.
        magnitudes: for each parent, the range to which magnitudes are clamped.
        scores: for each parent, the range of the scores that are kept, from 0 to 1.
    """

    variant: Variant
    magnitudes: Limits
    scores: Limits

    def kept(self, deltas: Tensor) -> Tensor:
        """(parents, elements): task vectors as they are added to the base."""
        score = _normalized(_raw_scores(deltas, self.magnitudes, self.variant), self.scores)
        clamped = deltas.sign() * _clamped(deltas.abs(), self.magnitudes)
        return clamped * score / score.sum(0).clamp_min(_NO_SCORE)


def _compete(sources: Sources, ratio: float, variant: Variant, clamp: float) -> _Competition:
    """Steps 1 and 4 need the whole model; every other follows from these scalars."""
    size = sum(tensor.base.numel() for tensor in sources.model())
    low = int(size * clamp)
    high = max(low, int(size * (1 - clamp) - 1))
    magnitudes = _statistics(sources, Tensor.abs, (low, high))
    scores = _statistics(
        sources,
        lambda deltas: _raw_scores(deltas, magnitudes, variant),
        (min(int(size * (1 - ratio)), size - 1), size - 1),
    )
    return _Competition(variant, magnitudes, scores)


def _statistics(
    sources: Sources, function: Callable[[Tensor], Tensor], places: tuple[int, int]
) -> Limits:
    rows = order_statistics(
        lambda: (function(finite_deltas(part)) for part in blocks(sources.model())),
        [places] * len(sources.parents),
        dtype=common_dtype(sources.model()),
    )
    return tuple((low, high) for low, high in rows)


def _raw_scores(deltas: Tensor, magnitudes: Limits, variant: Variant) -> Tensor:
    """Competition within a parent times that between parents (steps 2 and 3)."""
    size = _normalized(deltas.abs(), magnitudes)
    # Without the -1 hundreds of parents would overflow; a common factor is normalized away.
    within = size.square().sub_(1.0).mul_(len(deltas)).exp_()
    if variant == "pcb-merging.py":
        return within * torch.tanh(deltas * deltas.sum(0))
    signed = deltas.sign() * size
    if variant == "pcb.py":
        return within * torch.tanh(deltas * signed.sum(0))
    between = torch.zeros_like(signed)
    for other in signed:
        between += torch.tanh(signed * other)
    return within * between


def _normalized(values: Tensor, limits: Limits) -> Tensor:
    """Clamp each row to its range, then stretch that to [0, 1]; 0 where the range is one value."""
    low, high = _columns(values, limits)
    span = high - low
    return (values.clamp(low, high) - low) / span.where(span > 0, torch.inf)


def _clamped(values: Tensor, limits: Limits) -> Tensor:
    return values.clamp(*_columns(values, limits))


def _columns(values: Tensor, limits: Limits) -> tuple[Tensor, Tensor]:
    low, high = torch.tensor(limits, dtype=values.dtype, device=values.device).unbind(1)
    return low[:, None], high[:, None]
