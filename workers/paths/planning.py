"""What a search of paths may make of a model: told before any weight is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from search.layout import Layout
from search.problems import Problem
from search.recipe import Step
from search.stack import NoStack, stack_of
from workers.checkpoints.folder import read_folder
from workers.paths.configuring import configured
from workers.paths.folding import folded, obstacle
from workers.planning.preflight import Preflight

_FIELD = "space.path"


def refusals(
    folder: Path, layout: Layout, longest: Sequence[Step], *, scales: bool
) -> Iterator[Problem]:
    """Why the architecture of a base does not allow some paths.

    Args:
        folder: of the base.
        layout: of the base.
        longest: the path through every slot.
        scales: whether states are scaled.
    """
    if scales and (reason := obstacle(read_folder(_FIELD, folder).config)) is not None:
        yield Problem(field=f"{_FIELD}.scale", message=reason)
    try:
        configured(folder, stack_of(layout).name, [step.layer for step in longest])
    except NoStack as error:
        yield Problem(field=_FIELD, message=str(error))


def at_most(found: Preflight, longest: Sequence[Step], *, scales: bool) -> Preflight:
    """The preflight of a search whose models may have as many layers as its longest path.

    A checkpoint has all of them. On a worker layers are those of base and parents, and only tensors
    that are scaled take room beside them.
    """
    if found.layout is None:
        return found
    stack = stack_of(found.layout)
    layer = sum(stack.parts.values())
    element = found.checkpoint_bytes / max(1, found.parameters)
    more = max(0, len(longest) - stack.depth) * layer
    scaled = folded(stack.parts, 2.0) if scales else {}
    beside = sum(stack.parts[part] for part in scaled) * len(longest)
    added = round(more * element)
    disk = found.checkpoint_bytes + added
    message = (
        f"models have up to {len(longest)} layers, the base has {stack.depth}: with all of them "
        f"{found.parameters + more:,} parameters in {disk / 2**30:.3g} GiB"
    )
    return replace(
        found,
        memory_bytes=found.memory_bytes + round(beside * element),
        checkpoint_bytes=disk,
        added_bytes=added,
        warnings=(*found.warnings, Problem(field=_FIELD, message=message)),
    )
