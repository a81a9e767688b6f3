"""Twin-Merging, its static part: a shared expert, and of each parent what it lacks, compressed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.directions import add_deltas, add_whole_directions
from workers.merging.matrices import SVD, Solver, leading
from workers.merging.merge_method import Sources, merge_method
from workers.merging.random_masks import chosen
from workers.merging.whole_model import finite_deltas, largest_mask

Mask = Literal["magnitude", "bernoulli", "svd"]

_DECLARATION = MethodDeclaration(
    name="twin",
    summary="Task arithmetic, plus a compressed share of what it lost of each parent.",
    source="Lu et al. 2024, arXiv:2406.15479",
    parameters=(
        Parameter(
            "weight",
            "share of what only this parent has, as the paper's router would give it; a searched "
            "one costs nothing",
            per_parent=True,
            default=0.3,
        ),
        Parameter(
            "scaling",
            "factor of each task vector in the shared expert",
            default=0.3,
            low=0.1,
            high=0.6,
        ),
        Parameter(
            "density",
            "fraction of what only a parent has that is kept: entries, or singular directions, of "
            "each tensor but vectors, in (0, 1]",
            default=0.1,
            low=0.05,
            high=1.0,
            minimum=1e-6,
            maximum=1.0,
            log=True,
        ),
        Parameter(
            "mask_strategy",
            "what is kept: the largest entries (magnitude), entries at random, scaled up by "
            "1/density (bernoulli), or the strongest singular directions (svd)",
            "choice",
            default="magnitude",
            choices=("magnitude", "bernoulli", "svd"),
        ),
        SVD,
    ),
    uses_base=True,
    cost="prepared",
    directions=(1, 1),
    parent_values=None,
)


@merge_method(_DECLARATION)
def twin(
    out: Tensor,
    sources: Sources,
    *,
    weight: Sequence[float],
    scaling: float,
    density: float,
    mask_strategy: Mask,
    svd: Solver,
) -> None:
    """The merge of the paper, with fixed weights in the place of its router."""
    if sources.kind == "vector" or density >= 1:
        shared = scaling * (1.0 - sum(weight))
        add_deltas(out, sources, [shared + w for w in weight])
        return
    seed = sources.seed if mask_strategy == "bernoulli" else None
    add_whole_directions(
        out,
        sources,
        ("twin", scaling, density, mask_strategy, seed, svd),
        lambda whole: _directions(whole, scaling, density, mask_strategy, svd),
        (1.0, *weight),
    )


def _directions(
    sources: Sources, scaling: float, density: float, mask: Mask, solver: Solver
) -> list[Tensor]:
    """The shared expert, then what each parent has beyond it."""
    deltas = finite_deltas(sources)
    shared = scaling * deltas.sum(0)
    return [shared] + [
        _compressed(sources, parent, delta - shared, density, mask, solver)
        for parent, delta in enumerate(deltas)
    ]


def _compressed(
    sources: Sources, parent: int, own: Tensor, density: float, mask: Mask, solver: Solver
) -> Tensor:
    """At least one entry, or one direction of each matrix, is kept."""
    if not own.numel():
        return own
    match mask:
        case "magnitude":
            return own * largest_mask(own.abs(), max(1, int(density * own.numel())))
        case "bernoulli":
            kept = chosen(sources, [density] * len(sources.parents))
            return (kept.survivors(parent, own.reshape(-1), 0) / density).view(own.shape)
        case "svd":
            count = max(1, int(density * min(own.shape[-2:])))
            matrices = own.reshape(-1, *own.shape[-2:])
            return torch.stack([leading(m, count, solver).matrix() for m in matrices]).view(
                own.shape
            )
