"""DOGE: correct all task vectors alike, outside of the subspace that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from search.method import MethodDeclaration, Parameter
from workers.merging.adam import RELATIVE_LR, adam, lr, unit
from workers.merging.directions import add_whole_directions
from workers.merging.matrices import svd
from workers.merging.merge_method import Sources, merge_method
from workers.merging.rest import Rest, add_rest, rest
from workers.merging.whole_model import finite_deltas, thresholds

_DECLARATION = MethodDeclaration(
    name="doge",
    summary="Give every parent's change the same norm and correct what they do to each other.",
    source="Wei et al. 2025, arXiv:2501.01230",
    parameters=(
        Parameter(
            "weight",
            "factor of the parent's corrected task vector; a searched one costs nothing",
            per_parent=True,
            default=1.0,
            low=0.0,
            high=1.5,
        ),
        Parameter(
            "lamda",
            "norm that the task vector of every parent and matrix is given (eta of the paper)",
            default=0.07,
            low=0.02,
            high=0.5,
            log=True,
        ),
        Parameter(
            "K",
            "percentage of the entries of all projection matrices that are kept, in (0, 100]",
            default=30.0,
            low=10.0,
            high=100.0,
            minimum=1e-4,
            maximum=100.0,
        ),
        Parameter(
            "subspace",
            "the shared subspace has one direction for so many rows or columns",
            "integer",
            default=6,
            low=2,
            high=12,
            minimum=1,
        ),
        Parameter("steps", "steps of Adam", "integer", default=400, low=50, high=400, minimum=0),
        lr(steps="steps", default=1e-4, high=1e-3),
        RELATIVE_LR,
        rest(default="base"),
    ),
    uses_base=True,
    cost="prepared",
    directions=(0, 1),
    parent_values=None,
)


@merge_method(_DECLARATION)
def doge(
    out: Tensor,
    sources: Sources,
    *,
    weight: Sequence[float],
    lamda: float,
    K: float,  # noqa: N803 - the parameter's name in the paper's program
    subspace: int,
    steps: int,
    lr: float,
    relative_lr: bool,
    rest: Rest,
) -> None:
    """Base plus the sum of lambda times what the trim leaves of each corrected task vector.

    The authors' program; lambda is ``lamda`` over the norm of the task vector, and 0 where that is
    0.
    """
    if sources.kind != "matrix":
        add_rest(out, sources, weight, rest)
        return
    problem = _Problem(lamda, subspace, steps, lr, relative_lr)

    def find(whole: Sources) -> list[Tensor]:
        limits = sources.remember_model(
            ("doge", K), lambda: thresholds(sources, K / 100, ("matrix",))
        )
        return problem.directions(finite_deltas(whole), limits)

    add_whole_directions(out, sources, ("doge", K, problem), find, weight)


@dataclass(frozen=True, slots=True)
class _Problem:
    """One setting of the correction."""

    lamda: float
    subspace: int
    steps: int
    lr: float
    relative_lr: bool

    def directions(self, deltas: Tensor, limits: Sequence[float]) -> list[Tensor]:
        """(rows, columns) for each parent: what is added to the base.

        Args:
            deltas: (parents, rows, columns) task vectors.
            limits: the magnitude from which on a parent's entries are kept.
        """
        norms = torch.linalg.matrix_norm(deltas).tolist()
        scales = [self.lamda / norm if norm > 0 else 0.0 for norm in norms]
        correction = self._correction(deltas, scales)
        return [
            (scale * (delta + correction)).masked_fill_(delta.abs() < limit, 0.0)
            for delta, scale, limit in zip(deltas, scales, limits, strict=True)
        ]

    def _correction(self, deltas: Tensor, scales: Sequence[float]) -> Tensor:
        """What is added to every task vector so that, merged, they do to each what it did.

        Least squares over the rows of each task vector times the difference that merging makes,
        as the program has it.
        """
        size = unit(deltas, relative=self.relative_lr)
        deltas = deltas / size
        weights = deltas.new_tensor(scales)
        total = float(weights.sum())
        merged = torch.tensordot(weights, deltas, dims=1)
        wanted = (deltas * (deltas - merged)).sum(-1)
        basis = self._shared(deltas)

        def gradient(point: Tensor) -> Tensor:
            missing = wanted - total * torch.einsum("pij,ij->pi", deltas, point)
            slope: Tensor = torch.einsum("pi,pij->ij", missing, deltas).mul_(-2 * total)
            return slope.sub_(basis @ (basis.T @ slope))

        start = torch.zeros_like(merged)
        return adam(start, gradient, steps=self.steps, lr=self.lr).mul_(size)

    def _shared(self, deltas: Tensor) -> Tensor:
        """(rows, directions): an orthonormal basis of the subspace that is left as it is."""
        size = min(deltas.shape[1:])
        room = max(1, size // len(deltas))
        each = [svd(delta).first(room).u for delta in deltas]
        return svd(torch.cat(each, dim=1)).first(size // self.subspace).u
