"""LiNeS: scale the sum of task vectors by depth."""

from __future__ import annotations

from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.directions import add_deltas, add_directions
from workers.merging.merge_method import Sources, depth_factor, merge_method
from workers.merging.multi_task import MULTI_TASK_VECTOR, MultiTaskVector, multi_task_vector
from workers.merging.whole_model import blocks, by_element, finite_deltas

_DECLARATION = MethodDeclaration(
    name="lines",
    summary="Add the summed changes, the more of them the deeper the layer.",
    source="Wang et al. 2024, arXiv:2410.17146",
    parameters=(
        Parameter(
            "alpha",
            "factor in the first layer and outside of layers",
            per_block=False,
            default=0.3,
            low=0.0,
            high=1.0,
        ),
        Parameter(
            "beta",
            "how much larger the factor is in the last layer; linear in between",
            per_block=False,
            default=0.5,
            low=0.0,
            high=1.5,
        ),
        MULTI_TASK_VECTOR,
        Parameter(
            "balance",
            "multiply alpha by the L1 norm of the mean task vector over that of the multi-task "
            "vector, as the paper does (alpha 1)",
            "flag",
            default=False,
        ),
    ),
    uses_base=True,
    parent_values=None,
    presets={"paper": {"alpha": 1.0, "balance": True}},
)


@merge_method(_DECLARATION, scaled_by_depth=False)
def lines(
    out: Tensor,
    sources: Sources,
    *,
    alpha: float,
    beta: float,
    multi_task_vector: MultiTaskVector,
    balance: bool,
) -> None:
    """Base plus (alpha + beta * depth) times the multi-task vector (eq. 3).

    The same scaling around any other method: its ``lines_alpha`` and ``lines_beta``.
    """
    count = len(sources.parents)
    if balance:
        alpha *= _norm_ratio(sources, multi_task_vector) / count
    factor = depth_factor(sources.depth, {"lines_alpha": alpha, "lines_beta": beta})
    if multi_task_vector == "sum":
        add_deltas(out, sources, [factor] * count)
    else:
        add_directions(
            out,
            sources,
            ("lines", multi_task_vector),
            lambda: _direction(sources, multi_task_vector),
            (factor,),
        )


def _direction(sources: Sources, kind: MultiTaskVector) -> tuple[Tensor, ...]:
    merge = multi_task_vector(sources, kind)
    return by_element(sources, 1, lambda deltas: merge(deltas)[None])


def _norm_ratio(sources: Sources, kind: MultiTaskVector) -> float:
    """L1 norm of the sum over that of the multi-task vector, both of the whole model."""
    if kind == "sum":
        return 1.0
    return sources.remember_model(("lines", kind), lambda: _norms(sources, kind))


def _norms(sources: Sources, kind: MultiTaskVector) -> float:
    merge = multi_task_vector(sources, kind)
    plain = merged = 0.0
    for part in blocks(sources.model()):
        deltas = finite_deltas(part)
        plain += float(deltas.sum(0).abs().sum())
        merged += float(merge(deltas).abs().sum())
    return plain / merged if merged > 0 else 1.0
