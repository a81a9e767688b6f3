"""A path over the models of a search: what it leads through, and what that is worth as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from search.layout import in_layer
from search.recipe import Step
from workers.checkpoints.parents import Parents
from workers.kernels.fused import NotFinite
from workers.kernels.weighted_sum import weighted_sum, write
from workers.merging.merge_method import NotMergeable
from workers.paths.folding import Change, obstacle
from workers.paths.route import Route, route


def laid_path(parents: Parents, path: Sequence[Step]) -> Route:
    """Lay a path out.

    Raises:
        NotMergeable: the path does not fit the models, or their architecture.
    """
    if unknown := {step.model for step in path if step.model is not None} - parents.folders.keys():
        raise NotMergeable(f"no model is called {', '.join(sorted(unknown))}")
    scaled = any(step.scale != 1.0 for step in path)
    if scaled and (reason := obstacle(parents.base.config)) is not None:
        raise NotMergeable(reason)
    try:
        return route(parents.layout, path)
    except ValueError as error:
        raise NotMergeable(str(error)) from None


def as_is(parents: Parents, model: str, name: str) -> Tensor:
    """A tensor of a model, in the dtype of merges: the very same where it has it."""
    return parents.tensor(model, name).to(parents.dtype).contiguous()


def as_told(tensor: Tensor, change: Change | None, name: str) -> Tensor:
    """A tensor after a change, in its dtype: computed in float32, and rounded once.

    Raises:
        NotMergeable: it is not finite.
    """
    if change is None:
        return tensor
    out = torch.empty_like(tensor)
    try:
        if change.shift:
            write(out, tensor.float() * change.factor + change.shift)
        else:
            weighted_sum(out, (tensor,), (change.factor,))
    except NotFinite:
        raise NotMergeable(f"'{name}' is not finite once it is scaled") from None
    return out


def unmerged_along(parents: Parents, way: Route) -> Iterator[tuple[str, Tensor]]:
    """Buffers that files hold, those in layers at their new places."""
    for name, tensor in parents.unmerged():
        found = in_layer(name)
        if found is None or found[0] != way.stack.name:
            yield name, tensor
            continue
        for number, place in enumerate(way.places):
            if place.layer == found[1]:
                yield way.stack.tensor(number, found[2]), tensor
