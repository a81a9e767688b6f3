"""Genes of a path through layers: which slots hidden states pass through, and how scaled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.genes import Choice, Gene
from search.groups import EVERYWHERE
from search.layout import Layout
from search.problems import Problem
from search.recipe import MOST_STEPS, Step
from search.registry import suggestion
from search.spec import BASE, MERGED, LayerPath
from search.stack import NoStack, stack_of

# A point that is drawn from the whole space changes so many slots on average: of paths that differ
# in half of them nothing is left of a model.
_CHANGES = 2.0
_MOST_GROUPS = 8
_FIELD = "space.path"
# Of a scale, behind the point.
_DIGITS = 9
# What genes are called.
_PASS, _SCALE = "pass", "scale"


@dataclass(frozen=True, slots=True)
class Slot:
    """Layers of one source that come and go together, at one place of the row.

    Args:
        source: whose they are; None for the merge.
        start: number of the first.
        stop: number after the last.
        repeat: how often they stand in the row before.
        usual: whether the path starts with them.
    """

    source: str | None
    start: int
    stop: int
    repeat: int
    usual: bool

    @property
    def name(self) -> str:
        """A readable name: ``merged.0-3``, the second time ``merged.0-3#2``."""
        last = self.stop - 1
        layers = f"{self.start}" if last == self.start else f"{self.start}-{last}"
        again = f"#{self.repeat + 1}" if self.repeat else ""
        return f"{self.source or MERGED}.{layers}{again}"

    def steps(self, scale: float) -> Iterator[Step]:
        """Through all its layers; the state that enters the first is scaled."""
        for layer in range(self.start, self.stop):
            yield Step(model=self.source, layer=layer, scale=scale if layer == self.start else 1.0)


class Flow:
    """The slots of a path, and the genes that choose among them.

    For every slot a gene that tells whether it is passed, and where scales are searched one for
    its scale. In the middle of the cube lies the path that the search starts with.

    Args:
        given: what the spec says, if `problems` finds none in it.
        layout: of the base; empty where it is not known.
    """

    def __init__(self, given: LayerPath, layout: Layout) -> None:
        self.depth = stack_of(layout).depth if layout.tensors else 0
        self.slots = tuple(_slots(given, self.depth))
        self._scale = given.scale
        self._placed = tuple(self._genes())
        self.genes = tuple(gene for _, gene in self._placed)

    @property
    def longest(self) -> tuple[Step, ...]:
        """The path through every slot."""
        return tuple(step for slot in self.slots for step in slot.steps(1.0))

    @property
    def scales(self) -> bool:
        """Whether states are scaled."""
        return self._scale is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the genes: ``merged.0-3/pass``."""
        return tuple(f"{slot.name}/{gene.parameter}" for slot, gene in self._placed)

    @property
    def usual(self) -> tuple[float, ...]:
        """The point of the path that the search starts with, its scales as near to 1 as may be."""
        return tuple(
            gene.unit(1.0) if isinstance(gene, Gene) else gene.unit(gene.choices[1])
            for gene in self.genes
        )

    def path(self, genome: Sequence[float] | NDArray[np.float64]) -> tuple[Step, ...]:
        """The path at a point; empty where it is the merge's own layers, as they are.

        A path of no layers is none: there the search starts.
        """
        scales = dict.fromkeys(self.slots, 1.0)
        passed = {slot: slot.usual for slot in self.slots}
        for (slot, gene), unit in zip(self._placed, genome, strict=True):
            if isinstance(gene, Gene):
                scales[slot] = round(gene.value(float(unit)), _DIGITS)  # the middle is 1, exactly
            else:
                passed[slot] = gene.value(float(unit))
        if not any(passed.values()):
            passed = {slot: slot.usual for slot in self.slots}
        taken = (slot for slot in self.slots if passed[slot])
        steps = tuple(step for slot in taken for step in slot.steps(scales[slot]))
        return () if steps == self._own else steps

    def locate(self, path: Sequence[Step]) -> tuple[float, ...] | None:
        """The point of a path, or None where there is none."""
        wanted = tuple(path) or self._own
        passed: dict[Slot, float] = {}
        at = 0
        for slot in self.slots:
            scale = wanted[at].scale if at < len(wanted) else 1.0
            steps = tuple(slot.steps(scale))
            if wanted[at : at + len(steps)] == steps:
                passed[slot] = scale
                at += len(steps)
        found = tuple(
            gene.unit(passed.get(slot, 1.0) if isinstance(gene, Gene) else slot in passed)
            for slot, gene in self._placed
        )
        return found if _alike(self.path(found) or self._own, wanted) else None

    @property
    def _own(self) -> tuple[Step, ...]:
        return tuple(Step(layer=layer) for layer in range(self.depth))

    def _genes(self) -> Iterator[tuple[Slot, Choice | Gene]]:
        """With the slot that each decides on; none of them belongs to a block of the merge."""
        rare = min(0.5, _CHANGES / max(1, len(self.slots)))
        for slot in self.slots:
            choices = (not slot.usual, slot.usual)
            yield slot, Choice(EVERYWHERE, _PASS, None, choices, shares=(rare, 1.0 - rare))
            if self._scale is not None:
                low, high, log = self._scale.low, self._scale.high, self._scale.log
                yield slot, Gene(EVERYWHERE, _SCALE, None, low, high, log)


def _alike(path: Sequence[Step], other: Sequence[Step]) -> bool:
    """Whether two paths are one, to rounding of scales."""
    plain = ([step.model_copy(update={"scale": 1.0}) for step in one] for one in (path, other))
    return next(plain) == next(plain) and all(
        math.isclose(a.scale, b.scale, rel_tol=1e-7) for a, b in zip(path, other, strict=True)
    )


def problems(given: LayerPath, parents: Sequence[str], layout: Layout) -> Iterator[Problem]:
    """What is wrong with a path through the layers of base and parents.

    Args:
        given: what the spec says.
        parents: their names.
        layout: of the base; empty where it is not known.
    """
    known = (MERGED, BASE, *parents)
    for number, source in enumerate(given.sources):
        if source not in known:
            message = f"'{source}' is no model of this search; {suggestion(source, known)}"
            yield Problem(field=f"{_FIELD}.sources[{number}]", message=message)
    if MERGED in parents:
        message = f"'{MERGED}' is taken: in a path it means what is merged; name the parent anew"
        yield Problem(field=f"parents[{list(parents).index(MERGED)}].name", message=message)
    try:
        depth = stack_of(layout).depth if layout.tensors else 0
    except NoStack as error:
        yield Problem(field=_FIELD, message=str(error))
        return
    longest = depth * len(given.sources) * given.repeats
    if longest > MOST_STEPS:
        message = f"makes models of up to {longest} layers; {MOST_STEPS} are allowed"
        yield Problem(field=_FIELD, message=message)


def _slots(given: LayerPath, depth: int) -> Iterator[Slot]:
    layers = given.layers or max(1, -(-depth // _MOST_GROUPS))
    starts = range(0, depth, layers)
    sources = [None if source == MERGED else source for source in given.sources]
    pairs = [(source, start) for source in sources for start in starts]
    if given.order == "depth":
        pairs = [(source, start) for start in starts for source in sources]
    for repeat in range(given.repeats):
        for source, start in pairs:
            usual = repeat == 0 and source == sources[0]
            yield Slot(source, start, min(start + layers, depth), repeat, usual)
