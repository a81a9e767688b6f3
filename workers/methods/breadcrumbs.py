"""Breadcrumbs: task arithmetic on task vectors without outliers and without noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from search.method import Parameter
from workers.kernels.weighted_sum import weighted_sum
from workers.merging.breadcrumbs import breadcrumbs, declaration
from workers.merging.merge_method import Sources, merge_method
from workers.merging.task_vectors import NO_NORM, Rescale, common_divisor, rescaled

_DECLARATION = declaration(
    "breadcrumbs",
    "Drop the largest and the smallest changes of each parent, add the rest to the base.",
)
_SCOPE = Parameter(
    "scope",
    "what the fractions are taken of: each tensor (mergekit), or each row of it (the paper's code)",
    "choice",
    default="tensor",
    choices=("tensor", "row"),
)
_REMOVE_FIRST = Parameter(
    "remove_first",
    "in rows: density counts from behind the dropped entries, and not from the largest",
    "flag",
    default=True,
)
_BANDS = breadcrumbs(vote=False)


@merge_method(
    replace(
        _DECLARATION,
        parameters=(*_DECLARATION.parameters, _SCOPE, _REMOVE_FIRST),
        presets={"mergekit": {"scope": "tensor", "remove_first": True}, "paper": {"scope": "row"}},
    )
)
def merge(
    out: Tensor,
    sources: Sources,
    *,
    scope: Literal["tensor", "row"],
    remove_first: bool,
    weight: Sequence[float],
    density: Sequence[float],
    gamma: Sequence[float],
    normalize: bool,
    rescale: Rescale,
    lambda_: float,
) -> None:
    """A band of each task vector, per tensor or per row, weighted and added to the base."""
    if scope == "tensor":
        _BANDS(
            out,
            sources,
            weight=weight,
            density=density,
            gamma=gamma,
            normalize=normalize,
            rescale=rescale,
            lambda_=lambda_,
        )
        return
    bands = [
        sources.remember(
            ("band of rows", parent, *fractions, remove_first),
            partial(_band_of_rows, sources, parent, *fractions, remove_first=remove_first),
        )
        for parent, fractions in enumerate(zip(density, gamma, strict=True))
    ]
    factor = lambda_ / (common_divisor(weight) if normalize else 1.0)
    scales = rescaled(rescale, density, lambda i: _l1_scale(sources, i, bands[i]))
    coefficients = [factor * w * scale for w, scale in zip(weight, scales, strict=True)]
    weighted_sum(out, (sources.base, *bands), (1.0, *coefficients))


def _band_of_rows(
    sources: Sources, parent: int, density: float, gamma: float, *, remove_first: bool
) -> Tensor:
    """A task vector with 0 for what lies outside of the band of its row (the last axis)."""
    delta = sources.delta(parent)
    if delta.ndim == 0:
        return delta
    columns = delta.shape[-1]
    dropped = int(columns * gamma)
    stop = int(columns * density) + (dropped if remove_first else 0)
    order = delta.abs().argsort(dim=-1, descending=True, stable=True)
    inside = torch.zeros_like(delta, dtype=torch.bool)
    inside.scatter_(-1, order[..., dropped:stop], True)
    return delta.masked_fill_(~inside, 0.0)


def _l1_scale(sources: Sources, parent: int, band: Tensor) -> float:
    norm = float(band.abs().sum())
    return float(sources.delta(parent).abs().sum()) / norm if norm > NO_NORM else 1.0
