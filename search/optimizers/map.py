"""MAP: a quadratic surrogate per metric, its front by NSGA-III, and the truth about that front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from search.optimizer import Options, RacesOn, Task, needs_genes, optimizers
from search.optimizers.uniform import SobolPoints
from search.outcome import Candidate, Origin, Outcome
from search.predicted_front import Evolution, PredictedFront
from search.spec import SearchSpec


class MAPOptions(Options):
    """Options of MAP."""

    initial: Annotated[
        int | None, Field(ge=1, le=100_000, description="design points before the first fit")
    ] = None
    population: Annotated[int, Field(ge=8, le=400, description="of NSGA-III")] = 40
    generations: Annotated[int, Field(ge=1, le=1000, description="of NSGA-III")] = 15


@optimizers.register
class MAP:
    """Fits a surrogate to all that is known and evaluates where its front promises most.

    Li et al. 2024 with these differences: fitted on the scale of the link, with a ridge; never
    outside of the cube, where a quadratic means nothing; refitted as outcomes come; of the
    predicted front those members are evaluated that add most hypervolume to what is known. Design
    points are those of the opening (parents, average, middle), then Sobol' points.
    """

    name: ClassVar[str] = "map"
    summary: ClassVar[str] = "Learns a quadratic model of every metric; strong on few evaluations."
    source: ClassVar[str] = "Li et al. 2024, arXiv:2406.07529; NSGA-III of pymoo"
    options: ClassVar[type[Options]] = MAPOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def __init__(self, task: Task, options: MAPOptions) -> None:
        dim = task.space.dim
        self._task = task
        self._initial = min(dim + 2, 16) if options.initial is None else options.initial
        self._points = SobolPoints(dim, task.generator(0))
        self._front = PredictedFront(task, Evolution(options.population, options.generations))

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        index = ordinal - self._task.opening
        if index < self._initial or len(self._front) < 2:
            return self._task.candidate(ordinal, self._points[index], Origin("sample"))
        genome = self._front.choose(rng, self._task.genomes(pending))
        return self._task.candidate(ordinal, genome, Origin("predicted_front"))

    def tell(self, outcome: Outcome) -> None:
        self._front.learn(outcome)

    def status(self) -> str:
        """What it is at, in a sentence."""
        return f"Looks where quadratics predict the front; {self._front.quality()}."

    @staticmethod
    def problems(spec: SearchSpec, dim: int, options: MAPOptions) -> Mapping[str, str]:  # noqa: ARG004  # only genes matter
        return needs_genes(dim)
