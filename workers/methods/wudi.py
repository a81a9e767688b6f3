"""WUDI: from the sum of task vectors, a few steps towards less interference between them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.adam import RELATIVE_LR, adam, unit
from workers.merging.directions import add_deltas, add_whole_directions
from workers.merging.merge_method import Sources, merge_method
from workers.merging.whole_model import finite_deltas

Rest = Literal["average", "base"]

_DECLARATION = MethodDeclaration(
    name="wudi",
    summary="Minimize how much the merged change of a matrix disturbs what each parent changed.",
    source="Cheng et al. 2025, arXiv:2503.08099",
    parameters=(
        Parameter(
            "lambda",
            "factor of all that is added; a searched one costs nothing",
            default=1.0,
            low=0.5,
            high=1.2,
        ),
        Parameter("iter_num", "steps of Adam", "integer", default=300, low=50, high=400, minimum=0),
        Parameter(
            "lr",
            "size of a step of Adam: no entry moves by more than about iter_num times this",
            default=1e-5,
            low=1e-6,
            high=1e-4,
            minimum=0.0,
            log=True,
        ),
        RELATIVE_LR,
        Parameter(
            "rest",
            "what embeddings, vectors and all else that is no projection matrix take: the mean "
            "task vector (average), or nothing (base)",
            "choice",
            default="average",
            choices=("average", "base"),
        ),
    ),
    uses_base=True,
    cost="prepared",
    parent_values=None,
    presets={"paper": {"rest": "base"}},
)


@merge_method(_DECLARATION)
def wudi(
    out: Tensor,
    sources: Sources,
    *,
    lambda_: float,
    iter_num: int,
    lr: float,
    relative_lr: bool,
    rest: Rest,
) -> None:
    """Minimize the sum of |(M - T) T'|^2 / |T|^2 from the sum of the T."""
    count = len(sources.parents)
    if sources.kind == "matrix":
        add_whole_directions(
            out,
            sources,
            ("wudi", iter_num, lr, relative_lr),
            lambda whole: [_direction(whole, iter_num, lr, relative=relative_lr)],
            (lambda_,),
        )
    else:
        share = lambda_ / count if rest == "average" else 0.0
        add_deltas(out, sources, [share] * count)


def _direction(sources: Sources, steps: int, lr: float, *, relative: bool) -> Tensor:
    deltas = finite_deltas(sources)
    size = unit(deltas, relative=relative)
    deltas /= size
    gram, target = _normal_equations(deltas)
    # Half the gradient is point @ gram - target: one product a step for any number of parents.
    end = adam(deltas.sum(0), lambda point: 2 * (point @ gram - target), steps=steps, lr=lr)
    return end * size


def _normal_equations(deltas: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of T'T / |T|^2 and of T T'T / |T|^2; a parent that changed nothing adds nothing."""
    columns = deltas.shape[2]
    gram = deltas.new_zeros((columns, columns))
    target = torch.zeros_like(deltas[0])
    for delta in deltas:
        squares = delta.square().sum()
        if squares > 0:
            own = delta.T @ delta / squares
            gram += own
            target.addmm_(delta, own)
    return gram, target
