"""What merges of matrices do to everything else: embeddings, vectors, fused experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from search.method import Parameter
from workers.merging.directions import add_deltas
from workers.merging.merge_method import Sources

Rest = Literal["average", "base"]


def rest(*, default: Rest) -> Parameter:
    """Whether it is merged at all: the published programs differ."""
    return Parameter(
        "rest",
        "what embeddings, vectors and all else that is no projection matrix take: the mean task "
        "vector (average), or nothing (base)",
        "choice",
        default=default,
        choices=("average", "base"),
    )


def add_rest(
    out: Tensor, sources: Sources, coefficients: Sequence[float], rest: Rest = "average"
) -> None:
    """Write the base plus the mean of coefficient times task vector, or the base alone.

    Args:
        out: receives the merged tensor.
        sources: base and parents.
        coefficients: one for each parent.
        rest: which of the two.
    """
    share = 1.0 / len(coefficients) if rest == "average" else 0.0
    add_deltas(out, sources, [c * share for c in coefficients])
