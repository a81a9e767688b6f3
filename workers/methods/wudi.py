"""WUDI: from the sum of task vectors, a few steps towards less interference between them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.adam import RELATIVE_LR, adam, lr, unit
from workers.merging.directions import add_whole_directions
from workers.merging.merge_method import Sources, merge_method
from workers.merging.rest import Rest, add_rest, rest
from workers.merging.whole_model import finite_deltas

Solver = Literal["adam", "exact"]

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
        lr(steps="iter_num", default=1e-5, high=1e-4),
        RELATIVE_LR,
        rest(default="average"),
        Parameter(
            "solver",
            "how far to go: so many steps of Adam (adam, the paper), or to the minimum, in closed "
            "form (exact)",
            "choice",
            default="adam",
            choices=("adam", "exact"),
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
    solver: Solver,
) -> None:
    """Minimize the sum of |(M - T) T'|^2 / |T|^2 from the sum of the T.

    A few steps stay near the sum. The minimum is another merge: where task vectors share no
    directions it is the sum too, and where they share them all a mean.
    """
    if sources.kind != "matrix":
        add_rest(out, sources, [lambda_] * len(sources.parents), rest)
        return

    def find(whole: Sources) -> list[Tensor]:
        deltas = finite_deltas(whole)
        if solver == "exact":
            return [_minimum(deltas)]
        return [_descended(deltas, iter_num, lr, relative=relative_lr)]

    steps = () if solver == "exact" else (iter_num, lr, relative_lr)
    add_whole_directions(out, sources, ("wudi", solver, *steps), find, (lambda_,))


def _descended(deltas: Tensor, steps: int, lr: float, *, relative: bool) -> Tensor:
    size = unit(deltas, relative=relative)
    deltas = deltas / size
    gram, target = _normal_equations(deltas)
    # Half the gradient is point @ gram - target: one product a step for any number of parents.
    end = adam(deltas.sum(0), lambda point: 2 * (point @ gram - target), steps=steps, lr=lr)
    return end * size


def _minimum(deltas: Tensor) -> Tensor:
    """The solution of the normal equations that is nearest to the sum, and to 0.

    Both are the same: every task vector lies in the rows' space that the equations determine, so
    that gradient descent from the sum ends here. Directions that are rounding noise beside the
    largest stay out.
    """
    gram, target = _normal_equations(deltas.double())
    values, vectors = torch.linalg.eigh(gram)
    noise = max(deltas.shape[1:], default=0) * torch.finfo(deltas.dtype).eps
    kept = values > noise**2 * values.amax() if values.numel() else values > 0
    basis = vectors[:, kept]
    minimum: Tensor = (target @ basis / values[kept]) @ basis.T
    return minimum.to(deltas.dtype)


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
