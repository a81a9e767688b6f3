"""What both isotropic merges share: which tensors they treat how, and their scale."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor

from search.method import Parameter
from workers.merging.directions import add_whole_directions
from workers.merging.merge_method import Sources
from workers.merging.rest import add_rest

SCALING = Parameter(
    "scaling",
    "factor of all that is added (alpha of the paper); a searched one costs nothing",
    default=1.0,
    low=0.3,
    high=1.8,
)


def add_isotropic(
    out: Tensor,
    sources: Sources,
    what: Hashable,
    find: Callable[[Sources], Tensor],
    scaling: float,
) -> None:
    """Write the base plus a scaled direction: of a matrix what is found, else the mean task vector.

    Args:
        out: receives the merged tensor.
        sources: base and parents.
        what: name of the method and every parameter that the direction depends on.
        find: the direction of a whole matrix.
        scaling: its factor.
    """
    if sources.kind == "matrix":
        add_whole_directions(out, sources, what, lambda whole: [find(whole)], (scaling,))
    else:
        add_rest(out, sources, [scaling] * len(sources.parents))
