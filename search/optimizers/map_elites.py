"""MAP-Elites: the best candidate for every trade-off of a grid, as in the library ribs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from search.merit import Merits
from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.optimizers.uniform import SobolPoints
from search.outcome import Candidate, Origin, Outcome
from search.pareto import span
from search.spec import SearchSpec

if TYPE_CHECKING:
    from ribs.archives import GridArchive

Vector = NDArray[np.float64]

# The grid has at most so many objectives: with 2 cells along each, there would soon be a cell for
# every candidate.
_MOST_MEASURES = 8
# With more than two objectives.
_MOST_CELLS = 1000
# How far the grid goes beyond the worst and the best baseline, in spans of the baselines.
_BELOW, _ABOVE = 0.1, 0.5
# Standard deviations of a child around its parent, in units of a gene's range, and along the line
# to another elite, in units of their distance: as in Vassiliades and Mouret 2018, but for the
# first, which there is for ten times as many evaluations.
_NOISE, _ALONG = 0.05, 0.2
# Below any preference, which is in spans of the baselines.
_BEHIND = -1e6


class MAPElitesOptions(Options):
    """Options of MAP-Elites."""

    cells: Annotated[
        int, Field(ge=2, le=1000, description="of the grid, along each objective (at least 2)")
    ] = 10
    samples: Annotated[
        int, Field(ge=1, le=10_000, description="Sobol' points before the first child")
    ] = 16


@optimizers.register
class MAPElites:
    """Keeps the elite of each cell of a grid over the objectives; elites have children.

    Mouret and Clune 2015. What tells niches apart are the objectives themselves, in spans of the
    baselines; what tells an elite is their weighted mean. Children lie along the line between two
    elites, plus noise. While any elite holds the constraints only such have children. With many
    objectives the grid gets coarser: about a thousand cells in all, of the first eight objectives.
    """

    name: ClassVar[str] = "map_elites"
    summary: ClassVar[str] = "Keeps the best candidate of every niche of trade-offs: diversity."
    source: ClassVar[str] = "Mouret and Clune 2015, arXiv:1504.04909, as in the library ribs"
    options: ClassVar[type[Options]] = MAPElitesOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, options: MAPElitesOptions) -> None:
        self._task = task
        self._options = options
        self._merits = Merits(task)
        self._points = SobolPoints(task.space.dim, task.generator(0))
        self._told = 0
        self._waiting: list[tuple[Candidate, Vector]] = []
        self._archive: GridArchive | None = None

    def ask(
        self, ordinal: int, rng: np.random.Generator, _pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        index = ordinal - self._task.opening
        if self._archive is None or len(self._archive) < 2 or index < self._options.samples:
            return self._task.candidate(ordinal, self._points[index], Origin("sample"))
        return self._child(ordinal, self._archive, rng)

    def tell(self, outcome: Outcome) -> None:
        self._told += 1
        values = self._merits.learn(outcome)
        if values is not None:
            self._waiting.append((outcome.candidate, values))
        if self._told < self._task.opening:
            return  # it is not known yet how far the grid goes
        if self._archive is None:
            self._archive = self._grid()
        for candidate, scores in self._waiting:
            if candidate.genome is not None:
                self._add(self._archive, candidate, scores)
        self._waiting.clear()

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: MAPElitesOptions) -> Mapping[str, str]:  # noqa: ARG004  # only genes matter
        return needs_genes(dim)

    def status(self) -> str:
        """What it is at, in a sentence."""
        if self._archive is None:
            return "Waits for the scores of base and parents, which say how far the grid goes."
        return (
            f"{len(self._archive)} of {self._archive.cells} niches have an elite, which is the "
            "best known candidate of its trade-off."
        )

    def _grid(self) -> GridArchive:
        # Imported here because it takes seconds: it brings pandas, scikit-learn and torch.
        from ribs.archives import GridArchive

        measures = min(len(self._task.objectives), _MOST_MEASURES)
        baselines = [v for c, v in self._waiting if c.origin.is_baseline]
        points = np.reshape(
            baselines or [v for _, v in self._waiting], (-1, len(self._merits.unit))
        )
        points = points if len(points) else np.zeros((1, len(self._merits.unit)))
        unit = span(points)
        low, high = points.min(axis=0) - _BELOW * unit, points.max(axis=0) + _ABOVE * unit
        cells = self._options.cells
        if measures > 2:
            cells = max(2, min(cells, int(_MOST_CELLS ** (1 / measures) + 1e-9)))
        return GridArchive(
            solution_dim=self._task.space.dim,
            dims=[cells] * measures,
            ranges=list(zip(low.tolist(), high.tolist(), strict=True))[:measures],
            extra_fields={"ordinal": ((), np.int64), "held": ((), np.float64)},
        )

    def _add(self, archive: GridArchive, candidate: Candidate, values: Vector) -> None:
        merit = self._merits(values)
        # Whoever violates constraints is behind all that do not: preferences are within the grid.
        worth = merit.preference if merit.held == 0 else _BEHIND + merit.held
        archive.add_single(
            np.array(candidate.genome),
            worth,
            values[: len(archive.dims)],
            ordinal=candidate.ordinal,
            held=merit.held,
        )

    def _child(self, ordinal: int, archive: GridArchive, rng: np.random.Generator) -> Candidate:
        from ribs.emitters.operators import IsoLineOperator

        held, ordinals = archive.data("held"), archive.data("ordinal")
        among = np.flatnonzero(held == held.max())
        first = int(rng.choice(among))
        other = int(rng.choice(np.setdiff1d(np.arange(len(held)), [first])))
        genomes = archive.data("solution")
        operator = IsoLineOperator(_NOISE, _ALONG, seed=int(rng.integers(2**63)))
        child = operator.ask(genomes[[first, other]][:, None, :])[0]
        origin = Origin("crossover", (int(ordinals[first]), int(ordinals[other])))
        return self._task.candidate(ordinal, np.clip(child, 0.0, 1.0), origin)
